"""Error messages and exit codes of the scripts, and the command-line options that all of them share."""

import argparse
import atexit
import difflib
import errno
import gc
import io
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence

from data.runtime.signals import StopSignal, handle_signals

# PyTorch makes so many objects that to search them for cycles takes 0.1 s of its import and 0.3 s of the exit.
GC_THRESHOLD = 10_000

MAX_PRINTED = 20  # problems in one message

# Advice for errors of the operating system by errno; the message adds the path and the system's text.
ADVICE = {
    errno.ENOSPC: "free some space or name another folder; files that were there are as they were",
    errno.EDQUOT: "free some of your quota or name another folder; files that were there are as they were",
    errno.EROFS: "name a folder that can be written to",
    errno.EACCES: "expected a place to read from and write to; change its permissions or name another",
    errno.EPERM: "expected a place to read from and write to; change its permissions or name another",
    errno.ENOTDIR: "expected a place to write to; a file stands where a folder is needed",
    errno.EISDIR: "expected a place to write to; a folder stands where a file is needed",
    errno.EEXIST: "expected a place to write to; something else stands there",
    errno.ENOENT: "it is missing, or the folder above it is; put it back and run again",
    errno.EMFILE: "raise the limit of open files (ulimit -n) or lower the number of workers",
    errno.EIO: "the drive fails; copy the folder to another and run again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "the file system or a limit (ulimit -f) allows no file so large; name another folder",
}


class InputError(Exception):
    """The user's input is wrong; the message says where, what was found, what was expected and what to do."""


def raise_all(headline: str, problems: Iterable[str]) -> None:
    """Raise one `InputError` that lists all `problems`; return if there are none.

    >>> raise_all("train.csv: 1 bad row", ["row 17: age='3O', expected a whole number"])
    Traceback (most recent call last):
    data.runtime.errors.InputError: train.csv: 1 bad row
      row 17: age='3O', expected a whole number
    """
    problems = list(problems)
    if problems:
        raise InputError(list_problems(headline, problems))


def list_problems(headline: str, problems: Sequence[str]) -> str:
    """Format a headline and up to 20 problems below it, a line each."""
    lines = [headline, *(f"  {problem}" for problem in problems[:MAX_PRINTED])]
    if len(problems) > MAX_PRINTED:
        lines.append(f"  ... and {len(problems) - MAX_PRINTED} more")
    return "\n".join(lines)


def printable(name: object) -> str:
    """Escape the characters of a file name that do not print, such as line breaks and undecodable bytes.

    >>> print(printable("김민준 (1).jpg"), printable("a\\nb.jpg"))
    김민준 (1).jpg a\\nb.jpg
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(name))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the most similar known name, as the end of an error message; empty if none is similar.

    >>> did_you_mean("gendr", ["age", "gender"]), did_you_mean("x", ["age"])
    (', did you mean gender?', '')
    """
    return f", did you mean {near}?" if (near := nearest(name, known)) else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name most similar to `name`, if any is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def whole_number_from(least: int) -> Callable[[str], int]:
    """Make the `type` of a command-line option for whole numbers from `least` up."""

    def whole_number(text: str) -> int:
        if not re.fullmatch(r"\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number, {least} or more")
        return int(text)

    return whole_number


def gigabytes(text: str) -> int:
    """Parse a command-line option in gigabytes to bytes."""
    if not 0 < float(text) < 1e6:
        raise argparse.ArgumentTypeError(f"{text}, expected a number of gigabytes above 0")
    return int(float(text) * 1e9)


def add_debug_option(*parsers: argparse.ArgumentParser) -> None:
    """Add --debug, which `run_script` reads, to a script's parser and those of its commands."""
    for parser in parsers:
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_bad_image_option(parser: argparse.ArgumentParser) -> None:
    """Add --on-bad-image, which decides about images that cannot be decoded."""
    what = "an image that cannot be decoded ends the run, or is listed and left out of training, or answered "
    what += "with equal probabilities (default: %(default)s)"
    parser.add_argument("--on-bad-image", choices=("stop", "skip"), default="stop", help=what)


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; report any failure by one message on standard error and an exit code.

    Exit codes: 2 for wrong input and errors of the operating system, 130 and 143 for SIGINT and SIGTERM, 141 where
    standard output is closed (`| head`), 1 for a bug. `--debug` prints the traceback before the message.
    """
    gc.set_threshold(GC_THRESHOLD)
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode must not end a run
            stream.reconfigure(errors="backslashreplace")
    code = 0
    try:
        with handle_signals():
            main()
        sys.stdout.flush()
    except (Exception, StopSignal) as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            # Discard the buffered output, on which Python would fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141  # as shells report SIGPIPE
        else:
            message, code = describe_error(error)
            if "--debug" in sys.argv:
                traceback.print_exc()
            print(message, file=sys.stderr, flush=True)
    if code:
        sys.exit(code)


def describe_error(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code for an error that ends a script.

    >>> describe_error(OSError(errno.ENOSPC, "No space left on device", "runs/mask/last.safetensors"))[0][:65]
    'error: runs/mask/last.safetensors: No space left on device; free '
    """
    if isinstance(error, StopSignal):
        return str(error), error.exit_code
    if isinstance(error, InputError):
        # Errors of data loader workers arrive inside a traceback; the message follows the last class name.
        return f"error: {str(error).rpartition('InputError: ')[2].rstrip()}", 2
    if isinstance(error, OSError) and error.errno in ADVICE:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"error: {where}{os.strerror(error.errno)}; {ADVICE[error.errno]}", 2
    # PyTorch's own class, by name: data does not need torch for anything else here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "error: memory ran out; lower the batch size or the number of workers", 2
    text = str(error).strip()
    detail = f"{type(error).__name__}: {text.splitlines()[-1]}" if text else type(error).__name__
    return f"error: a fault in this program, {detail}; run again with --debug and report what it shows", 1


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe whose reader has closed it; any other broken pipe is a bug.

    Windows cannot tell the two apart.
    """
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(events & select.POLLERR for _, events in poll.poll(0))
