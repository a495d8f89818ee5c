"""What tests of several processes share: how they are launched, in groups that can be ended."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.heads.conftest import squares

__all__ = ["squares"]
ROOT = Path(__file__).parents[2]
Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start a Python script from the root: launch(script, *arguments, processes=2); ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object, processes: int = 1, **environment: str) -> subprocess.Popen[str]:
        several = ["-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={processes}"]
        several += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
        command = [sys.executable, *(several if processes > 1 else []), script, *map(str, arguments)]
        of_cpu = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | of_cpu | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
