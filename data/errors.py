"""The one exception that means "what you gave us is wrong": scripts print it and exit with 2."""

import sys
from collections.abc import Callable, Iterable

MOST_SHOWN = 20


class InputError(Exception):
    """The user's input is wrong; the message says where, what was found, what was expected and what to do."""


def refuse(headline: str, problems: Iterable[str]) -> None:
    """Raise one `InputError` that tells all `problems` at once; return if there are none.

    >>> refuse("train.csv", [])
    >>> refuse("train.csv: 1 bad row", ["row 17: age='3O', expected a whole number"])
    Traceback (most recent call last):
    data.errors.InputError: train.csv: 1 bad row
      row 17: age='3O', expected a whole number
    """
    problems = list(problems)
    if not problems:
        return
    lines = [f"  {problem}" for problem in problems[:MOST_SHOWN]]
    if len(problems) > MOST_SHOWN:
        lines.append(f"  ... and {len(problems) - MOST_SHOWN} more")
    raise InputError("\n".join([headline, *lines]))


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; a wrong input ends with one message on standard error and exit code 2."""
    try:
        main()
    except InputError as error:
        # A loader's worker hands its errors on inside a traceback; the message stands behind the last name.
        print(f"error: {str(error).rpartition('InputError: ')[2].rstrip()}", file=sys.stderr)
        sys.exit(2)
    except (NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError) as error:
        print(f"error: {error.filename}: {error.strerror}; expected a place to write to", file=sys.stderr)
        sys.exit(2)
