"""Parts: used again only as they were written, by the same heads, of the same images."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import ensemble.inference.parts
from ensemble.files.predictions import Predictions, TaskOutput
from ensemble.inference.parts import ResultParts, make_key

BATCH = 4


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    (tmp_path / "images").mkdir()
    found = [tmp_path / "images" / f"{number}.jpg" for number in range(10)]
    for path in found:
        path.write_text(path.name)
    return found


def rows(start: int, stop: int) -> Predictions:
    numbers = np.arange(start, stop, dtype=np.float32)[:, None].repeat(3, axis=1)
    return Predictions({"mask": TaskOutput(numbers)}, [""] * (stop - start))


@pytest.fixture
def parts(paths: list[Path], tmp_path: Path) -> ResultParts:
    """Parts of rows 0..3, 4..7 and 8..9."""
    made = ResultParts(tmp_path / "out.parts", "key", paths)
    for start, stop in ((0, 4), (4, 8), (8, 10)):
        assert made.write(start, rows(start, stop)) == stop
    return made


def second(parts: ResultParts) -> Path:
    return sorted(parts.folder.iterdir())[1]


def damage(parts: ResultParts) -> None:
    content = bytearray(second(parts).read_bytes())
    content[len(content) // 2] ^= 1
    second(parts).write_bytes(content)


CHANGES: dict[str, tuple[Callable[[ResultParts], object], int]] = {
    "nothing": (lambda parts: None, 10),
    "a part is damaged": (damage, 4),
    "a part is missing": (lambda parts: second(parts).unlink(), 4),
    "an image changed": (lambda parts: os.utime(parts.paths[5], ns=(1, 1)), 4),
    "an image is gone": (lambda parts: Path(parts.paths[9]).unlink(), 8),
    "a longer listing": (lambda parts: setattr(parts, "paths", [*parts.paths, Path("10.jpg")]), 8),
    "other heads": (lambda parts: setattr(parts, "key", "other"), 0),
    "a killed writer": (lambda parts: (parts.folder / ".part-000000010.unfinished-x.npz").touch(), 10),
}


@pytest.mark.parametrize("change", CHANGES)
def test_parts_are_used_up_to_the_first_that_is_not_sound(change: str, parts: ResultParts) -> None:
    apply, expected = CHANGES[change]
    apply(parts)
    assert parts.count_finished(BATCH) == expected
    assert [each.tasks["mask"].probabilities[:, 0].tolist() for each in parts] == [
        part for part in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9]) if part[-1] < expected
    ]
    left = [path for path in parts.place.rglob("*") if path.is_file()]
    assert len(left) == len(list(parts))


def test_the_key_depends_on_heads_their_order_and_options() -> None:
    heads, options = {"mask": ["a", "b"], "age": ["c"]}, {"batch_size": 64}
    reverse = dict(reversed(heads.items()))  # another joint code
    others = [make_key(reverse, options), make_key(heads | {"age": ["d"]}, options), make_key(heads, {"batch_size": 3})]
    assert len({*others, make_key(heads, options), make_key(dict(heads), dict(options))}) == 4


def test_missing_images_are_predicted_and_gathered_into_parts(paths, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ensemble.inference.parts, "ROWS", 3)
    asked: list[int] = []

    def predict(rest: Sequence[str | Path]) -> Iterator[Predictions]:
        asked.append(len(rest))
        first = len(paths) - len(rest)
        return (rows(start, min(start + 2, 10)) for start in range(first, 10, 2))

    parts = ResultParts(tmp_path / "out.parts", "key", paths)
    parts.fill(predict, batch_size=2)
    assert [len(part) for part in parts] == [4, 4, 2]  # whole batches
    second(parts).unlink()
    parts.fill(predict, batch_size=2)
    assert asked == [10, 6]
    assert Predictions.concat(list(parts)).tasks["mask"].probabilities[:, 0].tolist() == list(range(10))
    parts.remove()
    assert not parts.place.exists()
