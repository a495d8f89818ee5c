"""Command lines, timed: the whole run, and each epoch by the line that reports it."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.speed.watch import FIRST, PEAK
from data.runtime.errors import InputError

ROOT = Path(__file__).parents[2]
EPOCH = re.compile(r"(?:(\S+) \| )?epoch \d+: .*macro_f1 ([\d.e+-]+)")  # named if heads train side by side


@dataclass
class Process:
    """A command that succeeded: its wall time, and its epochs or those of each head by name.

    Attributes:
        seconds: of the whole process.
        first, peak: second of its first batch, and MB at its peak, of a command of `watched`.
    """

    seconds: float = 0.0
    ends: list[float] = field(default_factory=list)  # second at which each epoch was reported
    macro_f1: list[float] = field(default_factory=list)  # of each epoch
    heads: dict[str, "Process"] = field(default_factory=dict)  # if the command trained several
    first: float = 0.0
    peak: int = 0

    @property
    def epochs(self) -> list[float]:
        """Seconds of each epoch from the second on, validation and checkpoint included."""
        return [end - start for start, end in zip(self.ends, self.ends[1:], strict=False)]


def python(*arguments: object) -> list[str]:
    """Build a command line for this interpreter."""
    return [sys.executable, *map(str, arguments)]


def watched(*arguments: object) -> list[str]:
    """Build a command line for this interpreter that reports its first batch and its memory."""
    return python("-m", "bench.speed.watch", *arguments)


def without_folders(options: Sequence[str]) -> str:
    """Write options for a page, absolute paths by their last name.

    >>> without_folders(["--calibration", "/home/me/faces/train"])
    '--calibration train'
    """
    return " ".join(Path(option).name if Path(option).is_absolute() else option for option in options)


def run(command: Sequence[str]) -> Process:
    """Run a command in the project's root to its end.

    Raises:
        InputError: it refused its input.
        RuntimeError: it failed otherwise.
    """
    finished, start, lines = Process(), time.perf_counter(), [""]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.rstrip() == FIRST:
                finished.first = time.perf_counter() - start
            elif line.startswith(PEAK):
                finished.peak = int(line.split()[-2])
            elif match := EPOCH.match(line):
                head = finished if match[1] is None else finished.heads.setdefault(match[1], Process())
                head.ends.append(time.perf_counter() - start)
                head.macro_f1.append(float(match[2]))
    finished.seconds = time.perf_counter() - start
    if process.returncode:
        message = "\n".join(lines[-5:]).strip().removeprefix("error: ")
        if process.returncode == 2:
            raise InputError(f"{shlex.join(command)}\n{message}")
        raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}: {message}")
    return finished
