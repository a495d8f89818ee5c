"""The plain loop answers as combine.py does, and trains what its YAML says."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch

import combine
from bench import plain
from ensemble.config import load_tasks
from ensemble.files.predictions import FILE_NAME, read_arrays
from ensemble.files.submission import read_answers
from heads.build import build_target, load_head
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.train.rows import split_rows

TOLERANCE = 1e-4


def plainly(*arguments: object) -> None:
    with patch.object(sys, "argv", ["plain", *map(str, arguments)]):
        plain.main()


def test_both_loops_answer_the_same(
    faces: Path, configs: Path, runs: Path, call: Callable, tmp_path: Path
) -> None:
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval", "--workers", 0]
    assert call(combine, *given, "--out", tmp_path / "ours" / "submission.csv").code == 0
    plainly("answer", *given, "--out", tmp_path / "plain" / "submission.csv")
    tasks = load_tasks(configs / "joint.yaml")
    classes = int(np.prod([len(names) for names in tasks.values()]))
    theirs, ours = (read_answers(tmp_path / name / "submission.csv", classes) for name in ("plain", "ours"))
    assert theirs.equals(ours)
    probabilities = [read_arrays(tmp_path / name / FILE_NAME) for name in ("plain", "ours")]
    for task in tasks:
        assert probabilities[0][task] == pytest.approx(probabilities[1][task], abs=TOLERANCE)


def test_the_plain_loop_trains_the_whole_backbone(
    faces: Path, configs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--task", "gender", "--config", configs, "--data", faces / "train", "--runs", tmp_path]
    plainly("train", *given, "--workers", 0, "--set", "training.epochs=2", "--set", "backbone.freeze=all")
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["epoch 1", "epoch 2"]
    metrics = json.loads((tmp_path / "gender" / "metrics.json").read_text())
    best = max(float(line.split("macro_f1 ")[1].split(",")[0]) for line in told)
    assert metrics["macro_f1"] == pytest.approx(best, rel=1e-3)
    backbone = load_head(tmp_path / "gender" / "best.safetensors").head.backbone
    assert not torch.equal(backbone.get_buffer("bn1.running_mean"), torch.zeros(64))


def test_the_plain_loop_takes_train_task_s_rows_corrections_and_all(
    faces: Path, configs: Path, tmp_path: Path
) -> None:
    target = build_target(load_config(TaskConfig, configs / "gender.yaml").label)
    first, _ = split_rows(load_config(TaskConfig, configs / "gender.yaml"), [faces / "train"], target)
    person, gender = first["person"][0], first["gender"][0]
    other = {"male": "female", "female": "male"}[gender]
    (tmp_path / "fixes.csv").write_text(f"person,column,value\n{person},gender,{other}\n")
    config = load_config(TaskConfig, configs / "gender.yaml", [f"corrections={tmp_path / 'fixes.csv'}"])
    train, valid = plain.split(config, [faces / "train"])
    for found, expected in zip((train, valid), split_rows(config, [faces / "train"], target), strict=True):
        pd.testing.assert_frame_equal(found, expected)
    rows = pd.concat([train, valid])
    assert set(rows["gender"][rows["person"] == person]) == {other}
