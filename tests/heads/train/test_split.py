"""Training and validation share no person, whatever else is read, and class counts are of the training set."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

from data.images.decode import decode
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.build import build_split, build_training_data, load_task_config
from heads.load import build_head
from heads.train.loaders import ImageSource
from heads.train.split import DataSplit

TASKS = ("mask", "gender", "age")


@pytest.fixture
def split(configs: Path, faces: Path) -> Callable[..., DataSplit]:
    """Split the drawn people (or other sources) for a task."""

    def make(task: str, sources: list[Path] | None = None, **changes: Any) -> DataSplit:
        config = load_task_config(task, configs).model_copy(update=changes)
        return build_split(config, sources or [faces / "train"])

    return make


def test_no_person_is_in_both_sets_and_all_tasks_validate_the_same_people(split: Callable) -> None:
    splits = [split(task) for task in TASKS]
    people = [set(found.valid["person"]) for found in splits]
    assert people[0] == people[1] == people[2]
    assert 3 <= len(people[0]) <= 6  # a fifth of 24
    for task, found in zip(TASKS, splits, strict=True):
        assert people[0].isdisjoint(found.train["person"])
        assert found.counts.tolist() == np.bincount(found.labels).tolist()
        assert len(found.labels) == len(found.train) == len(found.targets)
        assert found.valid_labels.tolist() == found.target.class_indices(found.valid).tolist()
        assert (found.valid_values is not None) == (task == "age")
        assert found.summary.startswith(f"{len(found.train)} images to train (")


def test_other_sources_and_corrections_change_nobodys_fold(split: Callable, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "more" / "images").mkdir(parents=True)
    images = sorted((faces / "eval" / "images").iterdir())[:12]
    for image in images:
        shutil.copy(image, tmp_path / "more" / "images")
    lines = [f"{image.name},wear,p{index}\n" for index, image in enumerate(images)]
    (tmp_path / "more" / "labels.csv").write_text("path,mask,person\n" + "".join(lines))
    person = sorted(before := set(split("gender").valid["person"]))[0]
    (tmp_path / "fixes.csv").write_text(f"person,column,value\n{person},gender,male\n{person},age,61\n")
    for task in TASKS:
        found = split(task, [tmp_path / "more", faces / "train"])
        added = {name for name in {*found.train["person"], *found.valid["person"]} if re.fullmatch(r"p\d+", name)}
        assert len(added) == (12 if task == "mask" else 0)
        assert set(found.valid["person"]) - added == before
        assert set(found.train["person"]).isdisjoint(found.valid["person"])
    corrected = split("gender", corrections=str(tmp_path / "fixes.csv")).valid
    assert set(corrected["person"]) == before
    assert set(corrected["gender"][corrected["person"] == person]) == {"male"}


@pytest.mark.usefixtures("accelerate_anew")
def test_validation_has_no_training_transform(split: Callable, configs: Path) -> None:
    letterbox = {"letterbox": {"height": 48, "width": 36}}
    blank = [letterbox, {"cutout": {"holes": 9, "size": 1.0, "p": 1.0}}]
    config = load_task_config("mask", configs)
    config = config.model_copy(update={"pixels": config.pixels.model_copy(update={"train": blank})})
    found = split("mask")
    data = build_training_data(config, found, build_head(config), ImageSource(decode), Accelerator(cpu=True))
    pixels = np.concatenate([batch.pixels[0].numpy() for batch in data.valid])
    assert len(pixels) == len(found.valid)
    pipeline = Pipeline(config.pixels.evaluate)
    for path, image in zip(found.valid["path"], pixels, strict=True):
        np.testing.assert_array_equal(image.transpose(1, 2, 0), pipeline(decode(Path(path)), (0, 0, 0)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(f"p{n}", "wear" if n % 2 else "normal") for n in range(10)], "no image of class 'incorrect', expected"),
        ([("p", mask) for mask in ("wear", "incorrect", "normal") * 3], "1 people, expected at least 5"),
        ([(f"p{n}", "" if n else "wear") for n in range(10)], "found no labelled image, expected at least 1"),
    ],
)
def test_sets_that_cannot_be_trained_on_are_refused(
    rows: list[tuple[str, str]], message: str, split: Callable, faces: Path, tmp_path: Path
) -> None:
    image = next((faces / "eval" / "images").iterdir())
    (tmp_path / "images").mkdir()
    lines = ["path,person,mask"]
    for number, (person, mask) in enumerate(rows):
        shutil.copy(image, tmp_path / "images" / f"{number}.jpg")
        lines.append(f"{number}.jpg,{person},{mask}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=message):
        split("mask", [tmp_path])
