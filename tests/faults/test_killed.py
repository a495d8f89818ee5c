"""train_task.py and combine.py killed by SIGKILL and run again: the files of a run that nothing interrupted.

Kills come after a random time, or at a write: each file is flushed by os.fsync just before it is renamed.
"""

import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from heads.run.checkpoint import load_tensors

# Scripts run in forks of a process that has imported what takes seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch", "accelerate", "albumentations", "heads.build", "heads.train.recorder", "ensemble.inference.parts"]
)
PARTS = 8  # rows of a part of combine.py's results: 56 images make seven


def run_script(arguments: list[str], log: Path, write: int | None) -> None:
    """Run a script in a process group of its own, which is killed at its `write`-th call of os.fsync."""
    os.setpgid(0, 0)
    fsync, calls = os.fsync, itertools.count(1)

    def kill_or_flush(file: int) -> None:
        if next(calls) == write:
            os.killpg(0, signal.SIGKILL)
        fsync(file)

    script = import_module(arguments[0])
    import_module("ensemble.inference.parts").ROWS = PARTS  # type: ignore[attr-defined]
    sys.argv, os.fsync = arguments, kill_or_flush
    with log.open("w") as file, redirect_stderr(file), redirect_stdout(file):
        import_module("data.runtime.errors").run_script(script.main)


@dataclass
class Script:
    """A script whose runs are killed: its command line, and the content of a finished run's folder."""

    arguments: list[str]
    output: str
    resume: list[str]
    read: Callable[[Path], Any]
    expected: Any = None
    seconds: float = 0.0

    def run(self, folder: Path, *more: str, seconds: float | None = None, write: int | None = None) -> bool:
        """Run it, and kill it after `seconds` or at a write; whether it ended before."""
        log = folder.with_name(f"{folder.name}.log")
        arguments = [*self.arguments, str(folder / self.output), *more]
        process = CONTEXT.Process(target=run_script, args=(arguments, log, write))
        process.start()
        if seconds is not None:
            process.join(seconds)
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
        return process.exitcode == 0

    def check(self, folder: Path, *seconds: float, write: int | None = None) -> bool:
        """Kill a run once or more, run it to its end, and compare; whether a kill at a write came too late."""
        folder.mkdir()
        late = self.run(folder, seconds=next(iter(seconds), None), write=write)
        for later in seconds[1:]:
            self.run(folder, *self.resume, seconds=later)
        assert self.run(folder, *self.resume)
        assert self.read(folder) == self.expected
        return late


def read_run(folder: Path) -> tuple[Any, ...]:
    """Weights, the optimiser's state, epochs of the history, and unfinished files."""
    files = [load_tensors(folder / "mask" / f"{name}.safetensors")[0] for name in ("best", "last")]
    tensors = [{name: tensor.numpy().tobytes() for name, tensor in each.items()} for each in files]
    return tensors, pd.read_csv(folder / "mask/history.csv")["epoch"].tolist(), list(folder.glob("mask/.*"))


def read_answers(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module", params=["train", "combine", "combine adaptively"])
def script(
    request: pytest.FixtureRequest, faces: Path, configs: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Script:
    if request.param == "train":
        command = (
            f"train_task --task mask --config {configs}/mask.yaml --data {faces}/train --set training.epochs=3 "
            "--set classifier.dropout=0.5 --set training.batch_size=8 --runs"
        )
        made = Script(command.split(), "", ["--resume"], read_run)
    else:
        views = " --views adaptive --margin 0.05" if "adaptively" in request.param else ""
        command = (
            f"combine --config {configs}/joint.yaml --runs {runs} --data {faces}/eval --workers 0 "
            f"--batch-size 4{views} --out"
        )
        made = Script(command.split(), "submission.csv", [], read_answers)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # for the process that is forked
        warm_up = CONTEXT.Process(target=int)  # waits for what the forked process imports
        warm_up.start()
        warm_up.join()
        folder, started = tmp_path_factory.mktemp("whole"), time.monotonic()
        assert made.run(folder)
    made.seconds = time.monotonic() - started
    made.expected = made.read(folder)
    return made


def test_a_run_killed_halfway_goes_on_to_the_same_files(script: Script, tmp_path: Path) -> None:
    script.check(tmp_path / "out", 0.6 * script.seconds)


def test_a_run_killed_while_writing_goes_on_to_the_same_files(script: Script, tmp_path: Path) -> None:
    assert not script.check(tmp_path / "out", write=9)


def test_what_was_answered_before_the_kill_is_not_answered_again(script: Script, tmp_path: Path) -> None:
    if script.resume:
        pytest.skip("combine.py's alone")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "submission.csv").write_text("yesterday's\n")
    assert not script.run(folder, write=5)
    assert (folder / "submission.csv").read_text() == "yesterday's\n"
    kept = PARTS * len(list(folder.glob("submission.csv.parts/*/part-*.npz")))
    assert kept
    assert script.run(folder)
    assert f"resuming after {kept} of 56 images" in (tmp_path / "out.log").read_text()


@pytest.mark.faults
def test_a_run_killed_at_any_write_goes_on_to_the_same_files(script: Script, tmp_path: Path) -> None:
    writes = next(n for n in itertools.count(1) if script.check(tmp_path / str(n), write=n))
    print(f"\n{script.arguments[0]} killed at each of its {writes - 1} writes")


@pytest.mark.faults
def test_a_run_killed_at_thirty_random_times_goes_on_to_the_same_files(script: Script, tmp_path: Path) -> None:
    for number in range(30):  # half of them are two kills of one run
        kills = [random.uniform(0, script.seconds) for _ in range(1 + number % 2)]
        script.check(tmp_path / str(number), *kills)
