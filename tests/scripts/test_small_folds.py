"""Folds of one person, one image, one class: trained as far as they can be, or refused in the user's words."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import train_task

Row = tuple[str, str]


@pytest.fixture
def trained(faces: Path, configs: Path, call: Callable, tmp_path: Path) -> Callable:
    """Train the mask head on (person, mask) rows of copies of one image."""

    def train(rows: list[Row], *more: object) -> object:
        image = next((faces / "eval" / "images").iterdir())
        (tmp_path / "data" / "images").mkdir(parents=True)
        lines = ["path,person,mask"]
        for number, (person, mask) in enumerate(rows):
            shutil.copy(image, tmp_path / "data" / "images" / f"{number}.jpg")
            lines.append(f"{number}.jpg,{person},{mask}")
        (tmp_path / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
        given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", tmp_path / "data"]
        return call(train_task, *given, "--runs", tmp_path / "runs", "--set", "split.strata={}", *more)

    return train


def test_a_class_without_a_image_to_train_on(trained: Callable) -> None:
    outcome = trained([(f"p{number}", "wear" if number % 2 else "normal") for number in range(10)])
    assert outcome.code == 2
    assert outcome.err.count("error:") == 1
    assert "the training fold lacks a class" in outcome.err
    assert "'incorrect': found 0 images, expected at least 1" in outcome.err


def test_one_person(trained: Callable) -> None:
    outcome = trained([("p", mask) for mask in ("wear", "incorrect", "normal") * 3])
    assert outcome.code == 2
    assert "1 people, expected at least 5" in outcome.err


def test_a_validation_fold_of_one_person_one_image_and_one_class_is_scored(trained: Callable) -> None:
    masks = ("wear", "incorrect", "normal") * 3 + ("wear",)  # whoever is held out, each class is still there
    rows = [(f"p{number}", mask) for number, mask in enumerate(masks)]
    outcome = trained(rows, "--set", "split.folds=10")
    assert outcome.code == 0, outcome.err
    assert "9 images to train" in outcome.out
    assert "1 to validate" in outcome.out


def test_a_fold_that_does_not_exist(trained: Callable) -> None:
    outcome = trained([(f"p{number}", "wear") for number in range(10)], "--fold", 7)
    assert outcome.code == 2
    assert outcome.err.count("error:") == 1
