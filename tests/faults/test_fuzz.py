"""Bytes that nobody thought of, at every door for outside bytes: only the documented error, and soon.

The suite runs each door for two seconds; `make test-faults` for FUZZ_SECONDS together (600 unless set). A new
crash is printed as the bytes that made it and becomes a test beside the reader's others.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data.annotations.table import read_table
from data.images.decode import decode_bytes
from data.images.find import read_listing
from data.runtime.errors import InputError
from ensemble.files.predictions import read_probabilities
from ensemble.files.submission import read_codes
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import load_tensors
from tests.bad_images import BAD, OTHER, SOUND

ROOT = Path(__file__).parents[2]
SLOWEST = 10.0  # seconds for one input, on a machine that others use too
Door = Callable[[bytes, Path], object]


def image(content: bytes, folder: Path) -> object:
    return decode_bytes(content, "x")


def labels(content: bytes, folder: Path) -> object:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.jpg").touch()
    (folder / "labels.csv").write_bytes(content)
    return read_table([folder])


def listing(content: bytes, folder: Path) -> object:
    (folder / "info.csv").write_bytes(content)
    return read_listing(folder / "info.csv"), read_codes(folder / "info.csv", 18)


def config(content: bytes, folder: Path) -> object:
    (folder / "x.yaml").write_bytes(content)
    return load_config(TaskConfig, folder / "x.yaml")


def checkpoint(content: bytes, folder: Path) -> object:
    (folder / "x.safetensors").write_bytes(content)
    return load_tensors(folder / "x.safetensors")


def arrays(content: bytes, folder: Path) -> object:
    (folder / "x.npz").write_bytes(content)
    return read_probabilities(folder / "x.npz")


def images() -> list[bytes]:
    sound = [make() for make, _ in SOUND.values()] + [make() for make, _ in OTHER.values()]
    return sound + [make() for make in BAD.values()]


def tables() -> list[bytes]:
    return [
        b"path,age,person\na.jpg,34,007\n",
        b'\xef\xbb\xbfImageID,ans,"x"\r\na.jpg,17,"two\nlines"\r\nb.jpg,0,\r\n',
        b"ImageID;ans\na;1\n",
        ("path\n" + "ä 顔,\n" * 9).encode(),
    ]


def yamls() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "configs").rglob("*.yaml"))] + [
        b"a: !!bool x\n- &b *b"
    ]


def checkpoints() -> list[bytes]:
    import torch
    from safetensors.torch import save

    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.uint8)}
    return [save(tensors), save(tensors, metadata={"description": '{"config": {}}'})]


def archives() -> list[bytes]:
    import io

    import numpy as np

    made = io.BytesIO()
    np.savez_compressed(made, ImageID=np.array(["a.jpg"]), mask=np.ones((1, 3), np.float32))
    single = io.BytesIO()
    np.save(single, np.arange(5))
    return [made.getvalue(), single.getvalue()]


DOORS: dict[str, tuple[Door, Callable[[], list[bytes]]]] = {
    "image": (image, images),
    "labels": (labels, tables),
    "listing": (listing, tables),
    "config": (config, yamls),
    "checkpoint": (checkpoint, checkpoints),
    "arrays": (arrays, archives),
}
NUMBERS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0"]
WORDS = [
    b"..",
    b"/",
    b'"',
    b"\n",
    b"\r",
    b",",
    b":",
    b"- ",
    b"{",
    b"[",
    b"!!python/object:os.system ",
    b"&a *a",
    b"\t",
]


def mutated(seed: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A few random changes: bytes flipped, overwritten, cut out, doubled, moved in from another seed."""
    content = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(content) + 1)
        length = rng.choice((1, 2, 4, 16, 256))
        kind = rng.randrange(6)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at : at + 4] = rng.choice(NUMBERS)
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = content[at : at + length] * rng.choice((1, 2, 100))
        elif kind == 4:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            content[at : at + length] = other[start : start + length]
        else:
            content[at:at] = rng.choice(WORDS) if rng.random() < 0.5 else rng.randbytes(length)
    return bytes(content[:200_000])


def knock(name: str, seconds: float, rng: random.Random, folder: Path) -> tuple[int, int]:
    """Try a door for so long; returns how many inputs it took, and how many of them it refused."""
    door, seeds = DOORS[name]
    known = seeds()
    tried = refused = 0
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        content = mutated(rng.choice(known), known, rng)
        try:
            door(content, folder)
        except InputError as error:
            refused += 1
            assert str(error), content  # noqa: PT017 (an error is one of two right answers)
        except BaseException:
            print(f"\n{name}: crashed by {content!r}")
            raise
        assert time.perf_counter() - started < SLOWEST, content
        tried += 1
    return tried, refused


@pytest.mark.parametrize("name", DOORS)
def test_a_door_holds_for_two_seconds(name: str, tmp_path: Path) -> None:
    tried, refused = knock(name, 2.0, random.Random(name), tmp_path)
    assert tried > 20
    assert refused > 0


@pytest.mark.faults
def test_every_door_holds_for_ten_minutes(tmp_path: Path) -> None:
    seconds = float(os.environ.get("FUZZ_SECONDS", "600"))
    seed = random.randrange(2**32)
    print(f"\nfuzzing for {seconds:g} s with seed {seed}")
    for name in DOORS:
        tried, refused = knock(name, seconds / len(DOORS), random.Random(f"{seed} {name}"), tmp_path)
        print(f"{name}: {tried} inputs, {refused} refused, no other error")
