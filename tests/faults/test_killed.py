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

import pytest

from heads.run.checkpoint import load_tensors

# Scripts run in forks of a process that has imported what takes seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "torch",
        "accelerate",
        "albumentations",
        "heads.build",
        "heads.train.recorder",
        "ensemble.inference.run",
    ]
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
    """A script whose runs are killed: its command line, and what a finished run leaves in a folder."""

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

    def check(self, folder: Path, **kill: Any) -> bool:
        """Kill a run, run it again, and compare; whether the kill came too late."""
        folder.mkdir()
        late = self.run(folder, **kill)
        assert self.run(folder, *self.resume)
        assert self.read(folder) == self.expected
        return late


def read_run(folder: Path) -> tuple[Any, ...]:
    """Weights and states of optimiser and schedule, the history's epochs, and what a killed writer left."""
    run = folder / "mask"
    files = [load_tensors(run / file)[0] for file in ("best.safetensors", "last.safetensors")]
    epochs = [line.partition(",")[0] for line in (run / "history.csv").read_text().splitlines()]
    weights = [{name: tensor.numpy().tobytes() for name, tensor in tensors.items()} for tensors in files]
    return weights, epochs, list(run.glob(".*"))


def read_answers(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module", params=["train", "combine", "combine adaptively"])
def script(
    request: pytest.FixtureRequest,
    faces: Path,
    configs: Path,
    runs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Script:
    if request.param == "train":
        more = ["training.epochs=3", "classifier.dropout=0.5", "training.batch_size=8"]
        given = ["train_task", "--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train"]
        given += [word for setting in more for word in ("--set", setting)] + ["--runs"]
        made = Script([str(word) for word in given], "", ["--resume"], read_run)
    else:
        given = ["combine", "--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval"]
        given += ["--workers", 0, "--batch-size", 4]
        given += ["--views", "adaptive", "--margin", 0.05] if "adaptively" in request.param else []
        made = Script([str(word) for word in [*given, "--out"]], "submission.csv", [], read_answers)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # for the process that is forked
        for name in ("first", "whole"):  # the first one also waits for the imports
            folder, started = tmp_path_factory.mktemp(name), time.monotonic()
            assert made.run(folder)
            made.seconds = time.monotonic() - started
    made.expected = made.read(folder)
    return made


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_run_killed_in_time_goes_on_to_the_same_files(script: Script, share: float, tmp_path: Path) -> None:
    script.check(tmp_path / "out", seconds=share * script.seconds)


@pytest.mark.parametrize("write", [2, 9])
def test_a_run_killed_while_writing_goes_on_to_the_same_files(
    script: Script, write: int, tmp_path: Path
) -> None:
    assert not script.check(tmp_path / "out", write=write)


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
    assert f"going on after {kept} of 56 answers" in (tmp_path / "out.log").read_text()


@pytest.mark.faults
def test_a_run_killed_at_any_write_goes_on_to_the_same_files(script: Script, tmp_path: Path) -> None:
    writes = next(n for n in itertools.count(1) if script.check(tmp_path / str(n), write=n))
    print(f"\n{script.arguments[0]} killed at each of its {writes - 1} writes")


@pytest.mark.faults
def test_a_run_killed_at_thirty_random_times_goes_on_to_the_same_files(script: Script, tmp_path: Path) -> None:
    late = [script.check(tmp_path / str(n), seconds=random.uniform(0, script.seconds)) for n in range(30)]
    print(f"\n{script.arguments[0]} killed {late.count(False)} times, the same files each time")


@pytest.mark.faults
def test_a_run_killed_again_and_again_ends_with_the_same_files(script: Script, tmp_path: Path) -> None:
    late = []
    while late.count(False) < 6:
        resume = script.resume if late else []
        late.append(script.run(tmp_path, *resume, seconds=random.uniform(0.3, 0.6) * script.seconds))
    assert script.run(tmp_path, *script.resume)
    assert script.read(tmp_path) == script.expected
