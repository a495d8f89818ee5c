"""train_task.py stopped by a signal or a lock: one line, the exit code of shells, no file of an earlier run lost."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

import train_task

pytestmark = pytest.mark.usefixtures("heeds_sigint")
SCRIPT = Path(__file__).parents[2] / "train_task.py"


@pytest.fixture(scope="module")
def arguments(configs: Path, faces: Path) -> list[object]:
    return ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train"]


def test_a_start_that_is_stopped_leaves_an_earlier_run_as_it_is(
    runs: Path, arguments: list[object], call: Callable, tmp_path: Path
) -> None:
    def stop(*_: object) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        return 1.0

    shutil.copytree(runs / "mask", run := tmp_path / "mask")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with patch("heads.train.loop._step", stop):
        outcome = call(train_task, *arguments, "--runs", tmp_path, "--set", "optimiser.lr=0.5")
    assert outcome.code == 128 + signal.SIGINT
    assert outcome.err.startswith("stopped by SIGINT; state saved after epoch 0 and 1 of ")
    for name in ("interrupted.safetensors", ".lock"):
        (run / name).unlink(missing_ok=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_terminated_process_group_prints_one_line(arguments: list[object], tmp_path: Path) -> None:
    more = ["--set", "training.workers=1", "--set", "training.epochs=100", "--runs", tmp_path]
    command = [sys.executable, SCRIPT, *arguments, *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch 1"):
                os.killpg(process.pid, signal.SIGTERM)  # the workers too, as when a system shuts down
                break
        message = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert message.startswith("stopped by SIGTERM; state saved after epoch ")
    assert message.count("\n") == 1
    assert (tmp_path / "mask" / "last.safetensors").is_file()


def test_a_run_in_use_by_another_process_is_refused(
    arguments: list[object], call: Callable, held_elsewhere: Callable, tmp_path: Path
) -> None:
    (tmp_path / "mask").mkdir()
    with held_elsewhere(tmp_path / "mask" / ".lock") as process:
        outcome = call(train_task, *arguments, "--runs", tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {tmp_path / 'mask'} is in use by process {process} on ")
