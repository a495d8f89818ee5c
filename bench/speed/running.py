"""Command lines, timed: whole, or between the lines that tell of epochs."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.speed.results import MISSING
from data.runtime.errors import InputError

ROOT = Path(__file__).parents[2]
EPOCH = re.compile(r"(?:(\S+) \| )?epoch \d+: .*macro_f1 ([\d.e+-]+)")  # named where heads train side by side
# How programs say that an option or a package is not there; other failures are failures.
ABSENT = re.compile(r"unrecognized arguments|invalid choice|not installed|No module named")


class Missing(Exception):
    """What was to be measured is not there: an option, or a package."""


@dataclass
class Process:
    """A command that ended well: its wall time, and at which second each epoch was told with which macro F1.

    Attributes:
        named: the same of each head by its name, where the command trained several.
    """

    seconds: float = 0.0
    ends: list[float] = field(default_factory=list)
    macro_f1: list[float] = field(default_factory=list)
    named: dict[str, "Process"] = field(default_factory=dict)

    @property
    def epochs(self) -> list[float]:
        """Seconds of each epoch from the second on, its validation and all that is kept of it included."""
        return [end - start for start, end in zip(self.ends, self.ends[1:], strict=False)]


def python(*arguments: object) -> list[str]:
    """A command line of this interpreter."""
    return [sys.executable, *map(str, arguments)]


def read_output(options: Sequence[str]) -> list[str]:
    """Options for a page: folders of the machine by their names alone.

    >>> read_output(["--calibration", "/home/me/faces/train"])
    ['--calibration', 'train']
    """
    return [Path(option).name if Path(option).is_absolute() else option for option in options]


def run(command: Sequence[str]) -> Process:
    """Run a command in the project's root to its end.

    Raises:
        Missing: it says that an option or a package is not there.
        InputError: it refused what it was given.
        RuntimeError: it failed otherwise.
    """
    ran, began, told = Process(), time.perf_counter(), []
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line.rstrip())
            if found := EPOCH.match(line):
                its = ran if found[1] is None else ran.named.setdefault(found[1], Process())
                its.ends.append(time.perf_counter() - began)
                its.macro_f1.append(float(found[2]))
    ran.seconds = time.perf_counter() - began
    if process.returncode:
        last = told[-1] if told else ""
        if ABSENT.search(last):
            raise Missing(f"{MISSING} ({last.removeprefix('error: ')})")
        if process.returncode == 2:
            refused = "\n".join(told[-5:]).removeprefix("error: ")
            raise InputError(f"{shlex.join(command)}\n{refused}")
        raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}: " + "\n".join(told[-5:]))
    return ran
