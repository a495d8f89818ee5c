"""What tests of faults share: a process that runs scripts in forks of itself, to be killed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a script: nursery("train_task", *arguments), and kill it: phase="step", entry=3, delay=0.01."""
    log = tmp_path_factory.mktemp("nursery") / "stderr"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    command = [sys.executable, str(Path(__file__).parent / "nursery.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(script: str, *arguments: object, **kill: Any) -> dict[str, Any]:
            request = {"script": script, "argv": [str(argument) for argument in arguments], "log": str(log)}
            print(json.dumps(request | kill), file=process.stdin, flush=True)
            reply: dict[str, Any] = json.loads(process.stdout.readline())
            return reply

        yield ask
        # Not by the end of its input: a loader's worker that a test left behind would hold that open.
        process.kill()
