"""Tasks that are not about faces: new YAMLs and a column for each, no Python changes; their heads are combined."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import combine
import evaluate
import train_task
from data.digits import write_digits
from ensemble.files.submission import read_codes
from ensemble.joint import encode, load_tasks
from heads.build import build_split, load_task_config
from heads.model.head import BACKBONES
from tests.conftest import Outcome
from tests.heads.conftest import TinyResNet

CONFIGS = Path(__file__).parents[2] / "configs/digits"
TASKS = ("loops", "parity", "below_five")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "data"
    write_digits(folder)
    return folder


def test_digits_are_trained_combined_and_scored(
    data: Path, tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "resnet18", TinyResNet)
    small = ["--config", CONFIGS, "--set", "sampler.per_person=8", "--set", "training.epochs=1"]
    small += ["--set", "training.precision=fp32"]
    for task in ("digit", *TASKS):
        outcome = call(train_task, "--task", task, *small, "--data", data / "train", "--runs", tmp_path)
        assert outcome.code == 0, outcome.err
    assert list(json.loads((tmp_path / "loops/metrics.json").read_text())["classes"]) == ["none", "one", "two"]
    runs = ["--config", CONFIGS / "joint.yaml", "--runs", tmp_path]
    out = tmp_path / "submission.csv"
    outcome = call(combine, *runs, "--data", data / "eval/images", "--out", out, "--workers", 0)
    assert outcome.code == 0, outcome.err
    with np.load(tmp_path / "probabilities.npz") as saved:
        digits = [saved[task].argmax(axis=1) for task in TASKS]
    assert read_codes(out, 12)["ans"].tolist() == encode(digits, (3, 2, 2)).tolist()
    scored = call(evaluate, *runs, "--submission", out, "--answers", data / "eval/answers.csv", "--out", tmp_path)
    assert scored.code == 0, scored.err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["joint"]["absent_classes"]) == 5, "ten digits are seven of twelve codes"
    assert metrics["loops"]["count"] == 382


def test_the_heads_of_digits_share_their_folds_and_the_joint_code(data: Path) -> None:
    splits = [build_split(load_task_config(task, CONFIGS), [data / "train"]) for task in TASKS]
    people = [set(split.valid["person"]) for split in splits]
    assert people[0]
    assert people[1:] == people[:1] * 2
    assert list(load_tasks(CONFIGS / "joint.yaml")) == list(TASKS)
