"""What ends a script, told once: wrong input, a disk that refuses, a signal, a fault of ours."""

import argparse
import difflib
import errno
import gc
import io
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable

from data.runtime.signals import Stopped, handle_signals

MOST_PRINTED = 20

# What to do when the system refuses, by errno; with the path and the system's words it makes one line.
ADVICE = {
    errno.ENOSPC: "free some space or name another folder; files that were there are as they were",
    errno.EDQUOT: "free some of your quota or name another folder; files that were there are as they were",
    errno.EROFS: "name a folder that can be written to",
    errno.EACCES: "expected a place to read from and write to; change its permissions or name another",
    errno.EPERM: "expected a place to read from and write to; change its permissions or name another",
    errno.ENOTDIR: "expected a place to write to; a file stands where a folder is needed",
    errno.EISDIR: "expected a place to write to; a folder stands where a file is needed",
    errno.EEXIST: "expected a place to write to; something else stands there",
    errno.ENOENT: "it is gone, or the folder above it is missing; put it back and run again",
    errno.EMFILE: "raise the limit of open files (ulimit -n) or lower the number of workers",
    errno.EIO: "the drive fails; copy the folder to another and run again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "the file system or a limit (ulimit -f) allows no file so large; name another folder",
}
NO_MEMORY = "error: memory ran out; lower the batch size or the number of workers"


class InputError(Exception):
    """The user's input is wrong; the message says where, what was found, what was expected and what to do."""


def raise_all(headline: str, problems: Iterable[str]) -> None:
    """Raise one `InputError` that tells all `problems` at once; return if there are none.

    >>> raise_all("train.csv", [])
    >>> raise_all("train.csv: 1 bad row", ["row 17: age='3O', expected a whole number"])
    Traceback (most recent call last):
    data.runtime.errors.InputError: train.csv: 1 bad row
      row 17: age='3O', expected a whole number
    """
    problems = list(problems)
    if not problems:
        return
    lines = [f"  {problem}" for problem in problems[:MOST_PRINTED]]
    if len(problems) > MOST_PRINTED:
        lines.append(f"  ... and {len(problems) - MOST_PRINTED} more")
    raise InputError("\n".join([headline, *lines]))


def printable(name: object) -> str:
    """A file's name for a message of one line: what does not print (line breaks, undecodable bytes) is escaped.

    >>> print(printable("김민준 (1).jpg"), printable("a\\nb.jpg"))
    김민준 (1).jpg a\\nb.jpg
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(name))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message on a name that is not `known`: the nearest one that is, if any is near.

    >>> did_you_mean("gendr", ["age", "gender"]), did_you_mean("x", ["age"])
    (', did you mean gender?', '')
    """
    near = nearest(name, known)
    return "" if near is None else f", did you mean {near}?"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is nearest to `name`, if any is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def whole_number_from(least: int) -> Callable[[str], int]:
    """What reads an option of the command line that is a whole number from `least` on."""

    def whole_number(text: str) -> int:
        if not re.fullmatch(r"\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number, {least} or more")
        return int(text)

    return whole_number


def add_debug_option(parser: argparse.ArgumentParser) -> None:
    """Give a script's parser the option that `run_script` heeds."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_bad_image_option(parser: argparse.ArgumentParser) -> None:
    """Give a script's parser the choice of what an image that cannot be decoded does."""
    parser.add_argument(
        "--on-bad-image",
        choices=("stop", "skip"),
        default="stop",
        help="an image that cannot be decoded ends the run, or is listed and left out of training, or answered "
        "with equal probabilities (default: %(default)s)",
    )


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; however it ends, one message on standard error tells it, and the exit code.

    Exit codes: 2 for wrong input and for what the system refuses, 130 and 143 for SIGINT and SIGTERM, 141 where
    nobody reads on (`| head`), 1 for a fault of ours. With `--debug` on the command line the traceback comes
    before the message.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode must not end a run
            stream.reconfigure(errors="backslashreplace")
    code = 0
    try:
        with handle_signals():
            main()
        sys.stdout.flush()
    except Stopped as stopped:
        code = _print_end(str(stopped), stopped.exit_code)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            # What is left to print goes nowhere, so that Python does not fail on it once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 128 + signal.SIGPIPE
        else:
            code = _print_end(*describe_error(error))
    # A loader that only a cycle holds ends its workers here, now that no traceback holds it either. Python's
    # exit would send them one SIGTERM, which they take for the group's (`leave_to_parent`), and wait for ever.
    gc.collect()
    if code:
        sys.exit(code)


def describe_error(error: Exception) -> tuple[str, int]:
    """The message for an error that ends a script, and the exit code.

    >>> describe_error(OSError(errno.ENOSPC, "No space left on device", "runs/mask/last.safetensors"))[0][:65]
    'error: runs/mask/last.safetensors: No space left on device; free '
    """
    if isinstance(error, InputError):
        # A loader's worker hands its errors on inside a traceback; the message stands behind the last name.
        return f"error: {str(error).rpartition('InputError: ')[2].rstrip()}", 2
    if isinstance(error, OSError) and error.errno in ADVICE:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"error: {where}{os.strerror(error.errno)}; {ADVICE[error.errno]}", 2
    # PyTorch's own class, by name: data does not need torch for anything else here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return NO_MEMORY, 2
    text = str(error).strip()
    told = f"{type(error).__name__}: {text.splitlines()[-1]}" if text else type(error).__name__
    return f"error: a fault in this program, {told}; run again with --debug and report what it shows", 1


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe whose reader has gone; another pipe's end is a fault."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), select.POLLOUT)
    return any(events & select.POLLERR for _, events in watched.poll(0))


def _print_end(message: str, code: int) -> int:
    """Print how a script ends, from within the handler of its error; returns the exit code."""
    if "--debug" in sys.argv:
        traceback.print_exc()
    print(message, file=sys.stderr, flush=True)
    return code
