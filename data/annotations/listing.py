"""Listings of images, such as info.csv: the ids of its column ImageID, and how such files are read."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.annotations.labels_csv import MOST_ROWS
from data.runtime.errors import InputError, raise_all

ID = "ImageID"
EXAMPLES = 3


def read_listing(path: Path) -> list[str]:
    """The image ids of a listing such as info.csv, as text and in its order; other columns are not read.

    Raises InputError if the file or its ImageID column is missing, or with the rows of empty or doubled ids.
    """
    rows = read_rows(path, [ID])
    raise_all(f"{path}: bad rows", find_bad_ids(rows))
    return [row[0] for _, row in rows]


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """(line in the file, the values of `columns`) for every row; InputError if there are none."""
    lines: list[tuple[int, list[str]]] = []
    short: list[str] = []
    with open_csv(path, columns) as reader:
        header: list[str] = next(reader, [])
        places = [header.index(column) for column in columns if column in header]
        for row in reader:
            if len(lines) + len(short) == MOST_ROWS:
                found = f"{path}: row {reader.line_num}: more rows than {MOST_ROWS}"
                raise InputError(f"{found}, expected at most that many; split the file")
            if len(row) == len(header):
                lines.append((reader.line_num, [row[place] for place in places]))
            elif row:
                found = f"{len(row)} values, expected {len(header)}, as in the heading"
                short.append(f"row {reader.line_num}: {found}")
    if len(header) == 1 and ";" in header[0]:
        raise InputError(f"{path}: columns parted by semicolons, expected commas; save it again with commas")
    missing = [column for column in columns if header.count(column) != 1]
    if missing:
        raise InputError(
            f"{path}: row 1: columns {', '.join(header) or '(none)'}; expected {', '.join(missing)} once"
        )
    raise_all(f"{path}: bad rows", short)
    if not lines:
        raise InputError(f"{path}: no rows after the heading, expected one per image")
    return lines


@contextmanager
def open_csv(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """A reader of the file's rows; what goes wrong with it is told as an InputError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield csv.reader(file, strict=True)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}), expected {', '.join(columns)}") from None


def find_bad_ids(rows: Sequence[tuple[int, Sequence[str]]]) -> list[str]:
    """What is wrong with the ids that begin the rows of `read_rows`: empty ones, and doubled ones."""
    problems = [f"row {line}: {ID} is empty" for line, row in rows if not row[0].strip()]
    counts = Counter(row[0] for _, row in rows if row[0].strip())
    doubled: dict[str, list[int]] = {name: [] for name, count in counts.items() if count > 1}
    for line, row in rows:
        if row[0] in doubled:
            doubled[row[0]].append(line)
    for name, lines in doubled.items():
        told = ", ".join(map(str, lines[:EXAMPLES])) + (", ..." if len(lines) > EXAMPLES else "")
        problems.append(f"rows {told}: {ID}={name!r} is there {len(lines)} times, expected once")
    return problems
