"""An average is a run as train_task.py writes it, of the runs that make it better, trained on the people of all."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from data.annotations.table import read_table
from data.runtime.arrays import write_arrays
from heads.average import __main__ as average
from heads.build import describe_validation
from heads.config.task import TaskConfig
from heads.load import build_head, load_head
from heads.run.checkpoint import load_tensors
from heads.run.folder import RunFolder, run_folder, save_head, write_manifest
from heads.run.leakage import TrainingPeople, find_training_people
from train_task import train

pytestmark = pytest.mark.usefixtures("accelerate_anew", "tiny_backbone")
YEARS = {"column": "age", "classes": ["under 30", "30 and over"], "borders": [30]}
YEARS |= {"distribution": {"low": 0, "high": 100, "sigma": 2.5}}


@pytest.fixture
def trained(squares: Any, colour_config: Callable, tmp_path: Path) -> RunFolder:
    """A head for the colours of squares."""
    file, options = tmp_path / "colour.yaml", {"cache": None, "boxes": None, "box_margin": 1.0, "resume": False}
    file.write_text(colour_config(optimiser={"lr": 0.01}).to_yaml(), encoding="utf-8")
    train(
        Namespace(
            task="colour",
            config=file,
            data=[squares.folder],
            fold=None,
            runs=tmp_path / "trained",
            set=[],
            on_bad_image="stop",
            cache_limit=0,
            **options,
        )
    )
    return run_folder(tmp_path / "trained", "colour")


@pytest.fixture
def write(squares: Any, colour_config: Callable, tmp_path: Path) -> Callable[..., Path]:
    """Write a run whose head was trained on `people`, validated on the others, and predicts `number` for everybody."""
    table = read_table([squares.folder]).assign(age=30.0)
    torch.manual_seed(3)
    shared = build_head(colour_config(label=YEARS, classifier={"hidden": []})).state_dict()

    def write_run(name: str, people: Sequence[str], number: int = 30, other: bool = False, **sections: Any) -> Path:
        sections = {"label": YEARS, "classifier": {"hidden": []}, "training": {"select_by": "mae"}} | sections
        config: TaskConfig = colour_config(**sections)
        head, run = build_head(config), RunFolder(tmp_path / name)
        if not other and config.label.column == "age":
            head.load_state_dict(shared)
            with torch.no_grad():
                head.classifier[-1].weight.zero_()
                head.classifier[-1].bias.copy_(torch.where(torch.arange(101) == number, 50.0, 0.0))
        rows = table[~table["person"].isin(people)]
        arrays = describe_validation(config, rows, np.ones(len(rows), dtype=np.int64), rows["age"].to_numpy())
        run.folder.mkdir()
        write_arrays(run.validation, {**arrays, "probabilities": np.ones((len(rows), len(config.label.classes)))})
        hashes = TrainingPeople().after_training(people).to_json()
        save_head(run.best, head, config.model_dump(), {"mae": 1.0}, None, 2.0, hashes)
        write_manifest(run.folder)
        return run.folder

    return write_run


def assert_equal_tensors(one: Path, two: Path) -> None:
    first, second = (load_tensors(RunFolder(each).best)[0] for each in (one, two))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_an_average_of_one_run_is_that_run(trained: RunFolder, tmp_path: Path, call: Callable) -> None:
    head = load_head(trained.best)
    for copies in (1, 2):
        out = RunFolder(tmp_path / f"out{copies}")
        outcome = call(average, *[trained.folder] * copies, "--out", out.folder)
        assert outcome.code == 0, outcome.err
        assert_equal_tensors(out.folder, trained.folder)
        with np.load(out.validation) as found, np.load(trained.validation) as expected:
            assert found.files == expected.files
            assert all(np.array_equal(found[name], expected[name]) for name in found.files)
        found, expected = (json.loads(run.metrics.read_text()) for run in (out, trained))
        assert found["average_of"] == [str(trained.folder)] * copies
        for name in expected.keys() - {"epoch", "epochs", "minutes"}:
            assert found[name] == expected[name], name
        assert replace(load_head(out.best), head=head.head, file=Path(), validation={}) == replace(
            head, head=head.head, file=Path(), validation={}
        )
        assert find_training_people(out.best) == find_training_people(trained.best)
        assert out.config.read_text() == trained.config.read_text()


def test_runs_that_make_the_average_worse_are_left_out(write: Callable, tmp_path: Path, call: Callable) -> None:
    young, far, old = write("young", ["0"], 20), write("far", ["1"], 90), write("old", ["2"], 40)
    outcome = call(average, young, far, old, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert f"{old}: mae 10.0000, averaged with it 0.0000: added" in outcome.out
    assert f"{far}: mae 60.0000, averaged with it 20.0000: left out" in outcome.out
    out = RunFolder(tmp_path / "out")
    assert pd.read_csv(out.history)["mae"].round(3).tolist() == [10, 0, 20]
    metrics = json.loads(out.metrics.read_text())
    assert (metrics["average_of"], round(metrics["mae"], 3), metrics["epoch"]) == ([str(young), str(old)], 0, 2)
    # Nobody validates whom one of the three was trained on, not even the one that was left out.
    assert find_training_people(out.best) == TrainingPeople().after_training(["0", "1", "2"])
    with np.load(out.validation) as arrays:
        assert sorted(set(arrays["person"].tolist()), key=int) == [str(number) for number in range(3, 12)]
    assert call(average, young, far, old, "--all", "--out", tmp_path / "all").code == 0
    assert json.loads((tmp_path / "all/metrics.json").read_text())["mae"] == pytest.approx(20, abs=1e-3)


def test_folds_take_other_people_or_are_averaged_without_a_choice(
    squares: Any, write: Callable, tmp_path: Path, call: Callable
) -> None:
    people = sorted(set(squares.persons))
    folds = [write("fold-0", people[:6], 20), write("fold-1", people[6:], 90)]
    outcome = call(average, *folds, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "give images of other people with --data DIR, or --all" in outcome.err
    assert call(average, *folds, "--all", "--out", tmp_path / "out").code == 0
    assert not RunFolder(tmp_path / "out").validation.exists()
    tensors, parts = (load_tensors(RunFolder(each).best)[0] for each in (tmp_path / "out", folds[0]))
    assert torch.equal(tensors["backbone.conv1.weight"], parts["backbone.conv1.weight"])
    assert tensors["classifier.1.bias"].nonzero().flatten().tolist() == [20, 90]
    assert load_head(tmp_path / "out/best.safetensors").temperature == pytest.approx(2)
    shutil.copytree(squares.folder / "images", tmp_path / "data/images")
    lines = [f"{Path(path).name},20,{100 + n if n < 4 else people[0]}" for n, path in enumerate(squares.paths)]
    (tmp_path / "data/labels.csv").write_text("\n".join(["path,age,person", *lines]))
    outcome = call(average, *folds, "--data", tmp_path / "data", "--out", tmp_path / "chosen")
    assert outcome.code == 0, outcome.err
    assert "validation: 4 images of 4 people whom no run was trained on" in outcome.out
    assert_equal_tensors(tmp_path / "chosen", folds[0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"label": {**YEARS, "borders": [40]}}, "found the label column='age'"),
        (
            {"backbone": {"name": "resnet34", "weights": "random"}, "other": True},
            "found the backbone.name resnet34, expected",
        ),
        ({"other": True}, "start from several backbones, expected 0.5 or more"),
    ],
)
def test_runs_that_do_not_fit_are_refused(
    other: dict, message: str, write: Callable, tmp_path: Path, call: Callable
) -> None:
    runs = [write("first", ["0"]), write("second", ["0"], **other)]
    outcome = call(average, *runs, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.err
    assert str(runs[1] / "best.safetensors") in outcome.err
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_boxes_are_as_in_training(write: Callable, tmp_path: Path, call: Callable) -> None:
    run = write("run", ["0"])
    before = (run / "best.safetensors").read_bytes()
    outcome = call(average, run, "--out", run)
    assert (outcome.code, (run / "best.safetensors").read_bytes()) == (2, before)
    assert "exists and is not an empty folder" in outcome.err
    (tmp_path / "boxes.csv").write_text("path,x0,y0,x1,y1\n")
    outcome = call(average, run, "--out", tmp_path / "out", "--boxes", tmp_path / "boxes.csv")
    assert outcome.code == 2
    assert "trained with no --boxes, found --box-margin 1" in outcome.err
