"""A run goes on with what it began with, wherever that lies now, and with nothing else."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from data.annotations.table import read_table
from data.images.crop import CroppedReader, make_cropped_reader
from data.runtime.errors import InputError
from heads.config.task import TaskConfig
from heads.objective.targets import Target
from heads.run.checkpoint import load_tensors, save_tensors
from heads.run.folder import RunFolder
from heads.train.resume import FINGERPRINTS, fingerprint_data, load_run_state, save_run_state
from heads.train.state import TrainState

COLOUR = Target("colour", ("red", "green", "blue"))
SIZED = {"resize": {"height": 8, "width": 8}}
CONFIG = TaskConfig.model_validate(
    {
        "task": "colour",
        "label": {"column": "colour", "classes": list(COLOUR.classes)},
        "loss": {"terms": [{"name": "focal"}]},
        "pixels": {"train": [SIZED], "evaluate": [SIZED]},
        "training": {"epochs": 1},
    }
)


@pytest.fixture
def folder(squares: Any, tmp_path: Path) -> Path:
    """A data folder of one's own, with boxes of all images but the last."""
    shutil.copytree(squares.folder, tmp_path / "here")
    lines = [f"images/{Path(path).name},1,2,{20 + row},30,0.9" for row, path in enumerate(squares.paths[:-1])]
    (tmp_path / "here" / "boxes.csv").write_text("\n".join(["path,x0,y0,x1,y1,score", *lines]) + "\n")
    return tmp_path / "here"


def marks(
    source: Path,
    boxes: Path | None = None,
    margin: float = 1.0,
    kept: bool = False,
    frozen: str | None = None,
    target: Target = COLOUR,
) -> dict[str, str | None]:
    """Of the folder's or CSV's rows, the first 16 to train on and the others to validate on."""
    rows = read_table([source])
    crops: CroppedReader | None = None if boxes is None else make_cropped_reader(boxes, margin)
    train, valid = rows[:16], rows[16:].reset_index(drop=True)
    return fingerprint_data(train, valid, target, crops, kept, frozen)


def differing(one: Mapping[str, str | None], two: Mapping[str, str | None]) -> set[str]:
    assert one.keys() == two.keys() == FINGERPRINTS.keys()
    return {key for key in one if one[key] != two[key]}


def test_data_that_were_moved_are_the_same(folder: Path) -> None:
    before = marks(folder, folder / "boxes.csv"), marks(folder / "labels.csv")
    there = folder.rename(folder.with_name("there"))
    assert before == (marks(there, there / "boxes.csv"), marks(there / "labels.csv"))
    assert str(folder.parent) not in str(before)


def test_a_image_or_a_label_that_differs_is_noticed(folder: Path) -> None:
    first, labels = marks(folder), folder / "labels.csv"
    text = labels.read_text()
    labels.write_text(text.replace("0_0.png,red", "0_0.png,blue", 1))
    assert differing(first, marks(folder)) == {"train"}
    labels.write_text(text.replace("9_1.png,red", "9_1.png,blue", 1))
    assert differing(first, marks(folder)) == {"validation"}
    (folder / "images" / "0_0.png").rename(folder / "images" / "0_0b.png")
    labels.write_text(text.replace("0_0.png", "0_0b.png", 1))
    assert differing(first, marks(folder)) == {"train"}


def test_every_part_of_a_joint_label_counts(folder: Path) -> None:
    joint = Target("", ("",) * 9, parts=(COLOUR, Target("shade", ("dark", "light", "none"))))
    labels = folder / "labels.csv"
    head, *lines = labels.read_text().splitlines()
    labels.write_text("\n".join([f"{head},shade", *(f"{line},dark" for line in lines)]) + "\n")
    first = marks(folder, target=joint)
    labels.write_text(labels.read_text().replace("dark", "light", 1))
    assert differing(first, marks(folder, target=joint)) == {"train"}


def test_other_crops_are_noticed(folder: Path) -> None:
    boxes = folder / "boxes.csv"
    first = marks(folder, boxes)
    assert first["boxes"].startswith("23 cropped (")
    assert differing(first, marks(folder)) == {"boxes", "box_margin"}
    assert differing(first, marks(folder, boxes, 1.5)) == {"box_margin"}
    boxes.write_text(boxes.read_text() + "images/nobody.png,1,1,5,5,0.5\n")
    assert differing(first, marks(folder, boxes)) == set()
    boxes.write_text(boxes.read_text().replace("1,2,20,30", "1,3,20,30", 1))
    assert differing(first, marks(folder, boxes)) == {"boxes"}


def test_copies_in_place_of_images_and_other_frozen_weights_are_noticed(folder: Path) -> None:
    assert differing(marks(folder), marks(folder, kept=True)) == {"kept"}
    assert differing(marks(folder), marks(folder, frozen="aa")) == {"frozen"}


def learner() -> TrainState:
    head = nn.Linear(2, 3)
    optimiser = SGD(head.parameters(), lr=1.0)
    return TrainState(
        head, optimiser, LambdaLR(optimiser, lambda step: 1.0), history=[{"epoch": 1, "seconds": 1.0}]
    )


BEGUN = {
    "train": "16 (aa)",
    "validation": "8 (bb)",
    "boxes": "23 cropped (cc)",
    "box_margin": "1",
    "kept": None,
    "frozen": None,
}


@pytest.mark.parametrize(
    ("key", "found", "told"),
    [
        ("train", "16 (ee)", "found 16 (ee), expected 16 (aa)"),
        ("validation", "8 (ee)", "found 8 (ee), expected 8 (bb)"),
        ("boxes", None, "found none, expected 23 cropped (cc)"),
        ("box_margin", "1.5", "found 1.5, expected 1"),
        ("kept", "copies", "found copies, expected none"),
        ("frozen", "ff", "found ff, expected none"),
    ],
)
def test_a_run_does_not_go_on_with_another_beginning(
    key: str, found: str | None, told: str, tmp_path: Path
) -> None:
    run, first, second = RunFolder(tmp_path), learner(), learner()
    save_run_state(run.last, first, CONFIG, BEGUN)
    with pytest.raises(InputError) as raised:
        load_run_state(run, second, CONFIG, BEGUN | {key: found})
    assert str(raised.value).splitlines() == [
        f"{tmp_path}: began with other images or weights; give the same ones, or start without --resume",
        f"  {FINGERPRINTS[key]}: {told}",
    ]
    assert not torch.equal(first.head.weight, second.head.weight)
    assert load_run_state(run, second, CONFIG, BEGUN)
    assert torch.equal(first.head.weight, second.head.weight)


def test_a_state_from_before_there_were_marks_is_gone_on_with(tmp_path: Path) -> None:
    run, first, second = RunFolder(tmp_path), learner(), learner()
    save_run_state(run.last, first, CONFIG, BEGUN)
    tensors, plain = load_tensors(run.last)
    del plain["description"]["marks"]
    save_tensors(run.last, tensors, plain)
    assert load_run_state(run, second, CONFIG, BEGUN | {"train": "16 (ee)", "boxes": None})
    assert torch.equal(first.head.weight, second.head.weight)


@pytest.mark.parametrize("written", [1, "x", [1]])
def test_marks_that_are_none_are_told(written: Any, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save_run_state(run.last, learner(), CONFIG, BEGUN)
    tensors, plain = load_tensors(run.last)
    plain["description"]["marks"] = written
    save_tensors(run.last, tensors, plain)
    with pytest.raises(InputError, match="holds no unfinished run; start it without --resume"):
        load_run_state(run, learner(), CONFIG, BEGUN)
