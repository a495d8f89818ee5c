"""Pseudo-labels are the heads' own answers, where they are sure, in a folder that train_task.py reads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import pseudo_labels
from bench.held_out import predict_views
from bench.pseudo_labels import labels_of
from data.annotations.table import read_table
from data.runtime.errors import InputError
from ensemble.inference.predictor import Task, build_task
from heads.build import load_head
from heads.run.folder import find_trained_runs
from heads.train.validation import Predictions


def task_of(runs: Path, name: str) -> Task:
    return build_task([load_head(run.best) for run in find_trained_runs(runs, name)])


def test_labels_are_the_answers_of_sure_heads_and_years_are_their_mean(runs: Path) -> None:
    probabilities = np.array([[0.95, 0.05], [0.4, 0.6], [0.1, 0.9]], dtype=np.float32)
    assert labels_of(task_of(runs, "gender"), Predictions(probabilities, None), 0.9) == ["male", "", "female"]
    age = task_of(runs, "age")
    years = Predictions(np.eye(3, dtype=np.float32), np.array([21.4, 40.6, 70.0], dtype=np.float32))
    assert labels_of(age, years, 0.9) == ["21", "41", "70"]
    with pytest.raises(InputError, match=r"expected a head with label\.distribution"):
        labels_of(age, Predictions(years.probabilities, None), 0.9)


def test_the_folder_is_one_to_train_on(runs: Path, faces: Path, tmp_path: Path, call: Callable) -> None:
    given, out = read_table([faces / "train"]), tmp_path / "pseudo"
    tasks = {name: task_of(runs, name) for name in ("gender", "mask")}
    said = {name: predict_views(task, list(map(Path, given["path"])), 0) for name, task in tasks.items()}
    least = float(np.median(np.concatenate([each.probabilities.max(axis=1) for each in said.values()])))
    expected = {name: np.array(labels_of(tasks[name], each, least)) for name, each in said.items()}
    sure = np.any([labels != "" for labels in expected.values()], axis=0)

    options = ["--runs", runs, "--task", *tasks, "--data", faces / "train", "--workers", 0, "--out", out]
    outcome = call(pseudo_labels, *options, "--least", repr(least))
    assert outcome.code == 0, outcome.err
    made = read_table([out])
    for name, labels in expected.items():
        assert made[name].fillna("").tolist() == labels[sure].tolist()
    assert made["person"].nunique() == given["person"][sure].nunique()
    for kept, path in zip(made["path"], given["path"][sure], strict=True):
        assert Path(kept).read_bytes() == Path(path).read_bytes()
    again = call(pseudo_labels, *options)
    assert again.code == 2
    assert "exists and is not an empty folder" in again.err


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--task", "glasses"), "found no glasses/best.safetensors"), (("--task", "age", "--least", 3), "0..1")],
)
def test_what_cannot_be_labelled_is_told(
    options: tuple, told: str, runs: Path, faces: Path, tmp_path: Path, call: Callable
) -> None:
    outcome = call(
        pseudo_labels, "--runs", runs, "--data", faces / "train", "--out", tmp_path / "out", *options
    )
    assert outcome.code == 2
    assert told in outcome.err
