"""train_task.py under accelerate's launcher: one writes, a killed process ends the run, --resume goes on."""

import csv
import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.scale.conftest import Launch

pytestmark = pytest.mark.scale
# Batch norm frozen with the backbone and no dropout: what is left is equal to one process up to rounding.
EXACT = [
    "backbone.freeze=layer4",
    "classifier={hidden: [16], dropout: 0}",
    "training.epochs=3",
    "sampler.power=0.5",
]


def arguments(configs: Path, faces: Path, runs: Path, *settings: str) -> list[object]:
    task = ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train", "--runs", runs]
    return [*task, *(part for setting in settings for part in ("--set", setting))]


def history(runs: Path) -> list[dict[str, str]]:
    path = runs / "mask" / "history.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def test_two_processes_leave_the_run_that_one_leaves(
    launch: Launch, configs: Path, faces: Path, tmp_path: Path
) -> None:
    for processes in (1, 2):
        process = launch(
            "train_task.py", *arguments(configs, faces, tmp_path / str(processes), *EXACT), processes=processes
        )
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert out.count("images to train") == out.count("best on validation") == 1
    one, two = history(tmp_path / "1"), history(tmp_path / "2")
    assert [row["epoch"] for row in two] == ["1", "2", "3"]
    for alone, shared in zip(one, two, strict=True):
        assert float(shared["train_loss"]) == pytest.approx(float(alone["train_loss"]), abs=1e-5)
        assert shared["macro_f1"] == alone["macro_f1"]
        assert shared["accuracy"] == alone["accuracy"]
    with (
        np.load(tmp_path / "1/mask/validation.npz") as alone,
        np.load(tmp_path / "2/mask/validation.npz") as shared,
    ):
        assert shared["path"].tolist() == alone["path"].tolist()
        np.testing.assert_allclose(shared["probabilities"], alone["probabilities"], atol=1e-5)
    assert len(list((tmp_path / "2/mask/tensorboard").iterdir())) == 1


def test_a_killed_process_ends_the_run_and_resume_goes_on(
    launch: Launch, configs: Path, faces: Path, tmp_path: Path
) -> None:
    given = arguments(configs, faces, tmp_path, *EXACT, "training.epochs=40")
    process = launch("train_task.py", *given, processes=2)
    while not history(tmp_path):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    second = next(
        child.pid
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.environ().get("RANK") == "1"
    )
    os.kill(second, signal.SIGKILL)
    killed = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - killed < 30
    assert process.returncode != 0
    assert "start the same command with --resume to go on" in err, err
    done = len(history(tmp_path))
    assert 1 <= done < 40

    # On one process this time: the batches are the same, whoever computes them.
    resumed = launch("train_task.py", *given, "--resume", processes=1)
    while len(history(tmp_path)) <= done + 1:
        assert resumed.poll() is None, resumed.communicate()[1]
        time.sleep(0.1)
    resumed.kill()
    assert [int(row["epoch"]) for row in history(tmp_path)][: done + 2] == list(range(1, done + 3))
