"""However a script ends, it prints one message and has the documented exit code."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from data.runtime.errors import ADVICE, InputError, run_script
from data.runtime.signals import StopSignal

FILE = "runs/mask/last.safetensors"


def run(error: BaseException | None, *arguments: str) -> int:
    def main() -> None:
        if error is not None:
            raise error

    with patch.object(sys, "argv", ["script.py", *arguments]):
        try:
            run_script(main)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("a.csv:3: age='3O'"), 2, "error: a.csv:3: age='3O'"),
        (StopSignal(signal.SIGTERM), 143, "stopped by SIGTERM"),
        (MemoryError(), 2, "error: memory ran out; lower the batch size or the number of workers"),
        (KeyError("x"), 1, "error: a fault in this program, KeyError: 'x'; run again with --debug and"),
        *((OSError(n, "", FILE), 2, f"error: {FILE}: {os.strerror(n)}; {advice}\n") for n, advice in ADVICE.items()),
        (OSError(errno.ENOTEMPTY, "", FILE), 1, "error: a fault in this program, OSError: "),
    ],
)
def test_one_message_and_no_traceback(error, code, message, capsys) -> None:
    assert run(error) == code
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.count("\n") == 1


def test_debug_prints_the_traceback_before_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(InputError("a.csv: bad"), "--debug") == 2
    assert re.fullmatch(r"Traceback(.|\n)*\nerror: a\.csv: bad\n", capsys.readouterr().err)


PROGRAM = """
from data.runtime.errors import run_script
def main():
    while {}: print('a line')
    raise BrokenPipeError(32, 'of another pipe')
run_script(main)
"""


@pytest.mark.parametrize("code", [141, 1])
def test_a_reader_that_goes_away_is_no_fault_of_ours(code: int) -> None:
    root, program = Path(__file__).parents[3], PROGRAM.format(code == 141)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, text=True, **pipes) as process:
        process.stdout.readline()
        if code == 141:
            process.stdout.close()
        printed = process.stderr.read()
    assert process.returncode == code
    assert (printed == "") == (code == 141)
