"""Random damage to every file that is read from outside: only InputError is raised, and soon.

The suite damages each kind for two seconds, `make test-faults` for FUZZ_SECONDS together (600 unless set). What
crashes a reader is printed, and becomes a case of that reader's own tests.
"""

import io
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from data.annotations.table import read_table
from data.images.decode import decode
from data.images.find import read_listing
from data.runtime.arrays import read_arrays
from data.runtime.errors import InputError
from ensemble.files.submission import read_codes
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import load_tensors
from tests.bad_images import BAD, OTHER, SOUND

ROOT = Path(__file__).parents[2]
SLOWEST = 10.0  # seconds for one file, on a machine that others use too
TABLES = [
    b"path,age,person\na.jpg,34,007\n",
    b'\xef\xbb\xbfImageID,ans,"x"\r\na.jpg,17,"two\nlines"\r\nb.jpg,0,\r\n',
    b"ImageID;ans\na;1\n",
    ("path\n" + "ä 顔,\n" * 9).encode(),
]


def images() -> list[bytes]:
    return [make() for make, _ in (*SOUND.values(), *OTHER.values())] + [make() for make in BAD.values()]


def yamls() -> list[bytes]:
    shipped = [path.read_bytes() for path in sorted((ROOT / "configs").rglob("*.yaml"))]
    return [*shipped, b"a: !!bool x\n- &b *b"]


def checkpoints() -> list[bytes]:
    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.uint8)}
    return [save(tensors), save(tensors, metadata={"description": '{"config": {}}'})]


def archives() -> list[bytes]:
    several, single = io.BytesIO(), io.BytesIO()
    np.savez_compressed(several, ImageID=np.array(["a.jpg"]), mask=np.ones((1, 3), np.float32))
    np.save(single, np.arange(5))
    return [several.getvalue(), single.getvalue()]


# By kind: the file's name, what reads it, and sound and unsound files to damage.
READERS: dict[str, tuple[str, Callable[[Path], object], Callable[[], list[bytes]]]] = {
    "image": ("x.jpg", decode, images),
    "labels": ("labels.csv", lambda path: read_table([path.parent]), lambda: TABLES),
    "listing": ("info.csv", read_listing, lambda: TABLES),
    "submission": ("x.csv", lambda path: read_codes(path, 18), lambda: TABLES),
    "config": ("x.yaml", lambda path: load_config(TaskConfig, path), yamls),
    "checkpoint": ("x.safetensors", load_tensors, checkpoints),
    "arrays": ("x.npz", lambda path: read_arrays(path, "arrays"), archives),
}
NUMBERS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0"]
WORDS = rb""".. / " , : - { [ &a *a !!python/object:os.system""".split() + [b"\n", b"\r", b"\t"]


def damaged(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A few random changes: bytes flipped, overwritten, cut out, doubled, or copied from another file."""
    damage = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(damage) + 1), rng.choice((1, 2, 4, 16, 256))
        kind = rng.randrange(6)
        if kind == 0 and at < len(damage):
            damage[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damage[at : at + 4] = rng.choice(NUMBERS)
        elif kind == 2:
            del damage[at : at + length]
        elif kind == 3:
            damage[at:at] = damage[at : at + length] * rng.choice((1, 2, 100))
        elif kind == 4:
            start = rng.randrange(len(other) + 1)
            damage[at : at + length] = other[start : start + length]
        else:
            damage[at:at] = rng.choice(WORDS) if rng.random() < 0.5 else rng.randbytes(length)
    return bytes(damage[:200_000])


def count_refused(kind: str, seconds: float, rng: random.Random, folder: Path) -> tuple[int, int]:
    """Read damaged files for so long; returns how many there were, and how many were refused."""
    name, read, make = READERS[kind]
    seeds, count, refused, end = make(), 0, 0, time.perf_counter() + seconds
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.jpg").touch()  # of the tables
    while (started := time.perf_counter()) < end:
        content = damaged(rng.choice(seeds), rng.choice(seeds), rng)
        (folder / name).write_bytes(content)
        try:
            read(folder / name)
        except InputError:
            refused += 1
        except BaseException:
            print(f"\n{kind}: crashed by {content!r}")
            raise
        assert time.perf_counter() - started < SLOWEST, content
        count += 1
    return count, refused


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    count, refused = count_refused(kind, 2.0, random.Random(kind), tmp_path)
    assert count > 20
    assert refused > 0


@pytest.mark.faults
@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_are_read_or_refused_for_minutes(kind: str, tmp_path: Path) -> None:
    seconds, seed = float(os.environ.get("FUZZ_SECONDS", "600")) / len(READERS), random.randrange(2**32)
    count, refused = count_refused(kind, seconds, random.Random(seed), tmp_path)
    print(f"\n{kind}: {count} damaged files, {refused} refused, no other error (seed {seed})")
