"""However a script ends, one message and an exit code tell it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from data.runtime.errors import ADVICE, InputError, run_script
from data.runtime.signals import StopSignal


def ending(error: BaseException | None, *arguments: str) -> int:
    def main() -> None:
        if error is not None:
            raise error

    with patch.object(sys, "argv", ["script.py", *arguments]):
        try:
            run_script(main)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def test_a_script_that_ends_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(None) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("a.csv:3: age='3O'"), 2, "error: a.csv:3: age='3O'"),
        (StopSignal(signal.SIGTERM), 143, "stopped by SIGTERM"),
        (StopSignal(signal.SIGINT), 130, "stopped by SIGINT"),
        (MemoryError(), 2, "error: memory ran out; lower the batch size or the number of workers"),
        (KeyError("x"), 1, "error: a fault in this program, KeyError: 'x'; run again with --debug and"),
    ],
)
def test_one_message_and_no_traceback(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(error) == code
    told = capsys.readouterr().err
    assert told.startswith(message)
    assert told.count("\n") == 1


def test_debug_shows_the_traceback_before_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(InputError("a.csv: bad"), "--debug") == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last)")
    assert told.endswith("\nerror: a.csv: bad\n")


@pytest.mark.parametrize("number", ADVICE, ids=lambda number: errno.errorcode[number])
def test_what_the_system_refuses_is_told_with_its_place_and_what_to_do(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(OSError(number, os.strerror(number), "runs/mask/last.safetensors")) == 2
    told = capsys.readouterr().err
    assert told == f"error: runs/mask/last.safetensors: {os.strerror(number)}; {ADVICE[number]}\n"


def test_a_message_of_a_full_disk_names_the_file_and_not_the_one_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from data.runtime.files import write_atomically

    def main() -> None:
        with write_atomically(tmp_path / "submission.csv"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.object(sys, "argv", ["combine.py"]), pytest.raises(SystemExit) as end:
        run_script(main)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(
        f"error: {tmp_path / 'submission.csv'}: No space left on device; "
    )


SPEAKER = """
from data.runtime.errors import run_script
def main():
    while True: print('a line')
run_script(main)
"""
OTHER_PIPE = "from data.runtime.errors import run_script\ndef main(): raise BrokenPipeError(32, 'Broken pipe')\nrun_script(main)"


@pytest.mark.parametrize(("program", "code"), [(SPEAKER, 141), (OTHER_PIPE, 1)])
def test_a_reader_that_goes_away_is_no_fault_of_ours(program: str, code: int) -> None:
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        if code == 141:
            process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == code
    assert (told == "") == (code == 141)
