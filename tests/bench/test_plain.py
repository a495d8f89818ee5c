"""The plain loop predicts as combine.py does, and trains what its YAML says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import combine
from bench.plain import __main__ as plain
from ensemble.files.predictions import FILE_NAME, read_probabilities
from heads.load import load_head


def test_the_plain_loop_predicts_as_combine(
    faces: Path, configs: Path, runs: Path, call: Callable, tmp_path: Path
) -> None:
    options = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval", "--workers", 0]
    for script, command in ((combine, ["--raw-probabilities"]), (plain, ["answer"])):
        outcome = call(script, *command, *options, "--out", tmp_path / script.__name__ / "submission.csv")
        assert outcome.code == 0, outcome.err
    expected, found = (tmp_path / script.__name__ for script in (combine, plain))
    assert (found / "submission.csv").read_text() == (expected / "submission.csv").read_text()
    expected_arrays, arrays = (read_probabilities(folder / FILE_NAME) for folder in (expected, found))
    for name in ("mask", "gender", "age", "age/identity"):
        assert arrays[name] == pytest.approx(expected_arrays[name], abs=1e-4)


def test_the_plain_loop_trains_the_whole_backbone(faces: Path, configs: Path, tmp_path: Path, call: Callable) -> None:
    options = ["--task", "gender", "--config", configs, "--data", faces / "train", "--runs", tmp_path]
    settings = ["--set", "training.epochs=2", "--set", "backbone.freeze=all"]
    outcome = call(plain, "train", "--debug", *options, "--workers", 0, *settings)
    assert outcome.code == 0, outcome.err
    _, *lines = outcome.out.splitlines()  # the first one names the backbone's weights
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    best = max(float(line.split("macro_f1 ")[1].split(",")[0]) for line in lines)
    assert json.loads((tmp_path / "gender/metrics.json").read_text())["macro_f1"] == pytest.approx(best, rel=1e-3)
    backbone = load_head(tmp_path / "gender/best.safetensors").head.backbone
    assert backbone.get_buffer("bn1.running_mean").abs().sum() > 0
