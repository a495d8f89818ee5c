"""A cache gives what decoding gives; one that is stale, cut short or too large is never read."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.images.decode import decode
from data.images.pixel_cache import bytes_needed, make_cached_reader, open_cache
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline, working_size

SIZE = (24, 16)
PLENTY = 10**8
ROOT = Path(__file__).parents[3]


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    paths = []
    for number, shape in enumerate([(48, 32), (30, 40), (5, 4), (24, 16), (100, 20)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    return paths


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("pixels-*.npy"))


def test_letterboxing_from_the_cache_is_letterboxing_the_file(images: list[str], tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "cache", images, SIZE, PLENTY, processes=1)
    letterbox = Pipeline([{"letterbox": {"height": SIZE[0], "width": SIZE[1]}}])
    for path in images:
        assert np.array_equal(letterbox(cache.read(Path(path)), (0,)), letterbox(decode(Path(path)), (0,)))
    again = pickle.loads(pickle.dumps(cache))  # as a loader worker receives it
    assert np.array_equal(again.read(Path(images[1])), cache.read(Path(images[1])))


def test_the_same_images_are_decoded_once(images: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    open_cache(folder, images, SIZE, PLENTY, processes=1)
    [file] = files(folder)
    made = file.stat().st_ino
    open_cache(folder, [*reversed(images), images[0]], SIZE, PLENTY, processes=1)
    assert [file.stat().st_ino] == [made]
    assert file.stat().st_size == pytest.approx(bytes_needed(5, SIZE), abs=200)
    open_cache(folder, images, (12, 8), PLENTY, processes=1)
    assert len(files(folder)) == 2


def test_several_processes_make_the_same_cache(images: list[str], tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("two", 2)):
        open_cache(tmp_path / name, images, SIZE, PLENTY, processes)
    assert files(tmp_path / "one")[0].read_bytes() == files(tmp_path / "two")[0].read_bytes()


def test_a_changed_image_is_decoded_anew(images: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    open_cache(folder, images, SIZE, PLENTY, processes=1)
    Image.new("RGB", (16, 24), (9, 8, 7)).save(images[0])
    os.utime(images[0], ns=(1, 1))
    cache = open_cache(folder, images, SIZE, PLENTY, processes=1)
    assert (cache.read(Path(images[0])) == (9, 8, 7)).all()


@pytest.mark.parametrize("harm", ["short", "empty", "text"])
def test_a_spoilt_file_is_made_anew(images: list[str], tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "cache"
    open_cache(folder, images, SIZE, PLENTY, processes=1)
    [file] = files(folder)
    whole = file.read_bytes()
    file.write_bytes({"short": whole[: len(whole) // 2], "empty": b"", "text": b"not an array"}[harm])
    open_cache(folder, images, SIZE, PLENTY, processes=1)
    assert file.read_bytes() == whole


def test_what_an_interrupted_run_left_is_removed_and_never_read(images: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / ".pixels-123.npy").write_bytes(b"half")
    open_cache(folder, images, SIZE, PLENTY, processes=1)
    assert not list(folder.glob(".pixels-*"))


def test_a_failure_leaves_no_cache_and_tells_every_bad_image(images: list[str], tmp_path: Path) -> None:
    for path in images[:2]:
        Path(path).write_bytes(b"no image")
    with pytest.raises(InputError) as told:
        open_cache(tmp_path / "cache", images, SIZE, PLENTY, processes=1)
    assert all(path in str(told.value) for path in images[:2])
    assert files(tmp_path / "cache") == []
    with pytest.raises(InputError, match="missing"):
        open_cache(tmp_path / "cache", [str(tmp_path / "nowhere.png")], SIZE, PLENTY, processes=1)


def test_the_limit_refuses_what_is_too_large_and_the_longest_unused_makes_room(
    images: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(InputError, match="more than"):
        open_cache(folder, images, SIZE, bytes_needed(4, SIZE), processes=1)
    limit = 2 * bytes_needed(3, SIZE) + 1000
    for step, chosen in enumerate((images[:3], images[1:4])):
        open_cache(folder, chosen, SIZE, limit, processes=1)
        os.utime(files(folder)[-1], (step, step))
    older = open_cache(folder, images[:3], SIZE, limit, processes=1)  # used again: now the younger
    open_cache(folder, images[2:], SIZE, limit, processes=1)
    assert older.file.exists()
    assert len(files(folder)) == 2


READER = """
import sys
from pathlib import Path
from data.images.pixel_cache import open_cache
cache = open_cache(Path(sys.argv[1]), sys.argv[3:], (24, 16), int(sys.argv[2]), processes=1)
print("opened", flush=True)
sys.stdin.read()
cache.read(Path(sys.argv[3]))
"""


def test_what_another_process_reads_is_not_removed_to_make_room(images: list[str], tmp_path: Path) -> None:
    folder, limit = tmp_path / "cache", bytes_needed(3, SIZE) + bytes_needed(2, SIZE) + 1000
    call = [sys.executable, "-c", READER, str(folder), str(limit), *images[:3]]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        while reader.stdout.readline() != b"opened\n":
            assert reader.poll() is None
        os.utime(files(folder)[0], (0, 0))  # the longest unused
        with pytest.raises(InputError, match=r"beside 0\.00 GB in use, more than"):
            open_cache(folder, images[1:4], SIZE, limit, processes=1)
        open_cache(folder, images[3:5], SIZE, limit, processes=1)
        assert len(files(folder)) == 2
        reader.communicate()
        assert reader.returncode == 0
    open_cache(folder, images[1:4], SIZE, limit, processes=1)
    assert len(files(folder)) == 2


def test_each_source_has_its_own_cache(images: list[str], tmp_path: Path) -> None:
    table = pd.DataFrame({"source": ["a", "a", "b", "b", "b"], "path": images})
    read = make_cached_reader(tmp_path / "cache", table, SIZE, PLENTY, processes=1)
    assert len(files(tmp_path / "cache")) == 2
    letterbox = Pipeline([{"letterbox": {"height": SIZE[0], "width": SIZE[1]}}])
    assert all(np.array_equal(*(letterbox(of(Path(path)), (0,)) for of in (read, decode))) for path in images)
    make_cached_reader(tmp_path / "cache", table[table["source"] == "b"], SIZE, PLENTY, processes=1)
    assert len(files(tmp_path / "cache")) == 2


HOLDER = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def test_a_second_process_waits_and_a_killed_one_holds_nobody_up(
    images: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    call = [sys.executable, "-c", HOLDER, str(folder / ".lock"), "1.0"]
    with subprocess.Popen(call, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        started = time.perf_counter()
        open_cache(folder, images, SIZE, PLENTY, processes=1)
        assert time.perf_counter() - started > 0.5
        assert "waiting for another process" in capsys.readouterr().out
    call[-1] = "1000"
    with subprocess.Popen(call, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    open_cache(folder, images, (12, 8), PLENTY, processes=1)
    assert "waiting" not in capsys.readouterr().out


def test_the_working_size_is_the_one_that_all_pipelines_letterbox_to() -> None:
    box = {"letterbox": {"height": 128, "width": 96}}
    assert working_size(["hflip", box], [box]) == (128, 96)
    assert working_size(["hflip"], [box]) is None
    assert working_size([box], [{"letterbox": {"height": 64, "width": 48}}]) is None
    for cut in ("center_crop", "random_crop"):
        crop = {cut: {"height": 100, "width": 80}}
        assert working_size([box, crop], [box, "hflip"]) == (128, 96)
        assert working_size([crop, box], [crop, box]) is None, "kept copies are smaller than images"


@pytest.mark.parametrize("shape", [(256, 192), (144, 144), (185, 144), (300, 200), (512, 384)])
def test_an_aligned_crop_from_the_cache_is_that_of_the_file(shape: tuple[int, int], tmp_path: Path) -> None:
    steps = ["aligned_crop", {"letterbox": {"height": 144, "width": 144}}]
    size = working_size(["hflip", *steps], steps)
    assert size == (256, 192)
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape)
    waves = np.stack([rows, columns, (np.sin(9 * rows) + np.cos(7 * columns)) / 4 + 0.5], axis=2)
    file = tmp_path / "face.png"
    Image.fromarray((waves * 255).astype(np.uint8)).save(file)
    cached = Pipeline(steps)(open_cache(tmp_path / "cache", [str(file)], size, PLENTY, 1).read(file), (0,))
    decoded = Pipeline(steps)(decode(file), (0,))
    if shape[0] <= size[0] and shape[1] <= size[1]:
        assert np.array_equal(cached, decoded)
    assert np.quantile(np.abs(cached.astype(int) - decoded), 0.95) <= 4
