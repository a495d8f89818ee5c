"""ResultParts of results: trusted only as they were written, by the same heads, of the same images."""

import os
from pathlib import Path

import numpy as np
import pytest

from ensemble.files.predictions import read_arrays, write_probabilities
from ensemble.inference.parts import ROWS, Collector, ResultParts, make_key

BATCH = 4


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    (tmp_path / "images").mkdir()
    found = [tmp_path / "images" / f"{number}.jpg" for number in range(10)]
    for path in found:
        path.write_text(path.name)
    return found


def rows(start: int, stop: int) -> dict[str, np.ndarray]:
    return {"mask": np.arange(start, stop, dtype=np.float32)[:, None].repeat(3, axis=1)}


@pytest.fixture
def parts(paths: list[Path], tmp_path: Path) -> ResultParts:
    """ResultParts of rows 0..3, 4..7 and 8..9."""
    made = ResultParts(tmp_path / "out.parts", "key", paths)
    for start, stop in ((0, 4), (4, 8), (8, 10)):
        made.write(start, rows(start, stop))
    return made


def test_what_was_written_is_finished_and_comes_back_in_order(parts: ResultParts) -> None:
    assert parts.finished(BATCH) == 10
    assert [part["mask"][:, 0].tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def second(parts: ResultParts) -> Path:
    return sorted(parts.folder.iterdir())[1]


def test_a_part_that_is_damaged_ends_what_is_trusted(parts: ResultParts) -> None:
    content = bytearray(second(parts).read_bytes())
    content[len(content) // 2] ^= 1
    second(parts).write_bytes(content)
    assert parts.finished(BATCH) == 4
    assert len(list(parts.folder.iterdir())) == 1


def test_a_part_that_is_missing_ends_what_is_trusted(parts: ResultParts) -> None:
    second(parts).unlink()
    assert parts.finished(BATCH) == 4


def test_images_that_changed_are_predicted_again(parts: ResultParts, paths: list[Path]) -> None:
    os.utime(paths[5], ns=(1, 1))
    assert parts.finished(BATCH) == 4


def test_an_image_that_is_gone_is_another(parts: ResultParts, paths: list[Path]) -> None:
    paths[9].unlink()
    assert parts.finished(BATCH) == 8


def test_a_longer_listing_keeps_whole_batches(parts: ResultParts, paths: list[Path], tmp_path: Path) -> None:
    longer = ResultParts(parts.place, "key", [*paths, tmp_path / "images" / "10.jpg"])
    assert longer.finished(BATCH) == 8


def test_parts_of_other_heads_are_removed(parts: ResultParts, paths: list[Path]) -> None:
    other = ResultParts(parts.place, "other", paths)
    assert other.finished(BATCH) == 0
    assert parts.finished(BATCH) == 0


def test_what_a_killed_writer_left_is_removed(parts: ResultParts) -> None:
    (parts.folder / ".part-000000010.unfinished-x.npz").touch()
    assert parts.finished(BATCH) == 10
    assert len(list(parts.folder.iterdir())) == 3


def test_the_key_names_heads_and_options() -> None:
    heads = {"mask": ["a", "b"], "age": ["c"]}
    keys = [
        make_key(heads, {"batch_size": 64}),
        make_key(heads | {"age": ["d"]}, {"batch_size": 64}),
        make_key({"age": ["c"], "mask": ["a", "b"]}, {"batch_size": 64}),  # another order, another code
        make_key(heads, {"batch_size": 32}),
    ]
    assert len(set(keys)) == 4
    assert keys[0] == make_key(dict(heads), {"batch_size": 64})


def test_batches_are_gathered_into_parts(tmp_path: Path) -> None:
    paths = [tmp_path / "none"] * (ROWS + 8)
    parts = ResultParts(tmp_path / "out.parts", "key", paths)
    collector = Collector(parts, 0)
    for start in range(0, ROWS + 8, 8):
        collector.add(rows(start, start + 8))
    collector.flush()
    collector.flush()
    assert [len(part["mask"]) for part in parts] == [ROWS, 8]
    parts.remove()
    assert not parts.place.exists()


def test_streamed_arrays_are_numpy_s_own(parts: ResultParts, tmp_path: Path) -> None:
    class Both:
        def __iter__(self):
            return (
                {**part, "mask/identity": -part["mask"], "mask/number": part["mask"][:, 1]} for part in parts
            )

    ids = [f"ä{number}.jpg" for number in range(10)]
    classes = {"mask": ["wear", "incorrect", "normal"]}
    write_probabilities(tmp_path / "streamed.npz", ids, classes, Both(), numbers=["mask"])
    expected = {
        "ImageID": np.array(ids),
        "mask": rows(0, 10)["mask"],
        "mask/identity": -rows(0, 10)["mask"],
        "mask/number": rows(0, 10)["mask"][:, 1],
        "mask/classes": np.array(["wear", "incorrect", "normal"]),
    }
    np.savez_compressed(tmp_path / "numpy.npz", allow_pickle=False, **expected)
    assert (tmp_path / "streamed.npz").read_bytes() == (tmp_path / "numpy.npz").read_bytes()
    read = read_arrays(tmp_path / "streamed.npz")
    assert {name: array.dtype for name, array in read.items()} == {n: a.dtype for n, a in expected.items()}
