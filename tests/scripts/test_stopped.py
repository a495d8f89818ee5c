"""train_task.py ended by a signal: one line, the exit code of shells, a state that goes on to the same head."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import heads.train.loop
import train_task
from heads.run.checkpoint import load_tensors

ROOT = Path(__file__).parents[2]
MORE = ("--set", "training.epochs=2", "--set", "classifier.dropout=0.5", "--set", "training.batch_size=4")


@pytest.fixture(scope="module")
def arguments(configs: Path, faces: Path) -> list[object]:
    return ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train", *MORE]


@pytest.fixture(scope="module")
def whole(arguments: list[object], call: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    runs = tmp_path_factory.mktemp("whole")
    outcome = call(train_task, *arguments, "--runs", runs)
    assert outcome.code == 0, outcome.err
    return runs / "mask"


pytestmark = pytest.mark.usefixtures("heeds_sigint")


def stopped_after(step: int, number: int) -> Callable:
    """The loop's step, which sends this process a signal in the n-th one."""
    left, inner = [step], heads.train.loop._step

    def stepping(*given: object) -> float:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), number)
        return inner(*given)

    return stepping


def assert_same_head(one: Path, two: Path) -> None:
    for file in ("best.safetensors", "last.safetensors"):
        first, second = load_tensors(one / file)[0], load_tensors(two / file)[0]
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
    epochs = [line.split(",")[0] for line in (two / "history.csv").read_text().splitlines()]
    assert epochs == ["epoch", "1", "2"]


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 3), (signal.SIGTERM, 14)])
def test_a_stopped_training_goes_on_to_the_same_head(
    number: int, step: int, whole: Path, arguments: list[object], call: Callable, tmp_path: Path
) -> None:
    with patch("heads.train.loop._step", stopped_after(step, number)):
        outcome = call(train_task, *arguments, "--runs", tmp_path)
    assert outcome.code == 128 + number
    [told] = outcome.err.splitlines()
    assert told.startswith(f"stopped by {signal.Signals(number).name}; state saved after")
    assert (tmp_path / "mask" / "interrupted.safetensors").is_file()
    outcome = call(train_task, *arguments, "--runs", tmp_path, "--resume")
    assert outcome.code == 0, outcome.err
    assert f"{step} of" in outcome.out or f"{step - 10} of" in outcome.out
    assert_same_head(whole, tmp_path / "mask")
    assert not (tmp_path / "mask" / "interrupted.safetensors").exists()


def test_a_false_start_that_is_stopped_costs_no_earlier_run(
    whole: Path, arguments: list[object], call: Callable
) -> None:
    before = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    with patch("heads.train.loop._step", stopped_after(2, signal.SIGINT)):
        outcome = call(train_task, *arguments, "--runs", whole.parent, "--set", "optimiser.lr=0.5")
    assert outcome.code == 130
    (whole / "interrupted.safetensors").unlink()
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_a_process_that_is_terminated_tells_one_line(arguments: list[object], tmp_path: Path) -> None:
    more = ["--set", "training.workers=1", "--set", "training.epochs=100", "--runs", tmp_path]
    command = [sys.executable, ROOT / "train_task.py", *arguments, *more]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch 1"):
                os.killpg(process.pid, signal.SIGTERM)  # as a system that shuts down does, workers too
                break
        told = process.stderr.read()
    assert process.returncode == 143
    assert told.startswith("stopped by SIGTERM; state saved after epoch ")
    assert told.count("\n") == 1
    assert (tmp_path / "mask" / "last.safetensors").is_file()


def test_a_run_that_is_being_trained_is_not_trained_by_another(
    arguments: list[object], call: Callable, tmp_path: Path
) -> None:
    (tmp_path / "mask").mkdir()
    program = (
        "import sys, pathlib, data.runtime.locks\n"
        "with data.runtime.locks.hold_lock(pathlib.Path(sys.argv[1]), 'it'): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "mask" / ".lock")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        outcome = call(train_task, *arguments, "--runs", tmp_path)
        other.communicate()
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {tmp_path / 'mask'} is in use by process {other.pid} on ")
