"""Submissions, listings and answers: CSV files of ImageID and ans, the joint code."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.errors import InputError, refuse
from data.files import written_whole
from data.label_csv import MOST_ROWS

ID, ANSWER = "ImageID", "ans"
EXAMPLES = 3

Answers = npt.NDArray[np.int64]


def read_listing(path: Path) -> list[str]:
    """The image ids of a listing such as info.csv, as text and in its order; other columns are not read.

    Raises InputError if the file or its ImageID column is missing, or with the rows of empty or doubled ids.
    """
    rows = _read_rows(path, [ID])
    refuse(f"{path}: bad rows", _bad_ids(rows))
    return [row[0] for _, row in rows]


def read_answers(path: Path, classes: int) -> pd.DataFrame:
    """A submission or the right answers: `ImageID` (text), `ans` (int64 in 0..classes-1), a row per image.

    The index is the row in the file, so that whoever refuses an image can say where it stands.
    Raises InputError with all bad rows: empty or doubled ids, answers that are not whole or out of range.
    """
    rows = _read_rows(path, [ID, ANSWER])
    expected = f"expected a whole number from 0 to {classes - 1}"
    problems = _bad_ids(rows)
    for line, (_, answer) in rows:
        if not re.fullmatch(r"\s*\d{1,9}\s*", answer, re.ASCII) or int(answer) >= classes:
            problems.append(f"row {line}: {ANSWER}={answer[:40]!r}, {expected}")
    refuse(f"{path}: bad rows", problems)
    ids, answers = zip(*(row for _, row in rows), strict=True)
    table = {ID: list(ids), ANSWER: np.array([int(answer) for answer in answers], dtype=np.int64)}
    return pd.DataFrame(table, index=[line for line, _ in rows])


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """A CSV file's `columns` and those of `optional` that it has, as text without blanks around it.

    The index is the row in the file. Raises InputError if the file, one of `columns` or every row is missing,
    or with the rows of empty or doubled values in the first of `columns`, an ImageID.
    """
    with _opened(path, columns) as reader:
        header: list[str] = next(reader, [])
    wanted = [*columns, *(name for name in dict.fromkeys(optional) if header.count(name) == 1)]
    rows = _read_rows(path, wanted)
    refuse(f"{path}: bad rows", _bad_ids(rows))
    table = [[value.strip() if place else value for place, value in enumerate(row)] for _, row in rows]
    return pd.DataFrame(table, columns=wanted, index=[line for line, _ in rows], dtype=object)


def write_submission(path: Path, ids: Sequence[str], answers: Iterable[int]) -> None:
    """Write `ids` and their joint codes as CSV, in that order; the file appears whole or not at all."""
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([ID, ANSWER])
        writer.writerows((name, index(answer)) for name, answer in zip(ids, answers, strict=True))


def match(
    submission: pd.DataFrame, answers: pd.DataFrame, names: tuple[str, str] = ("submission", "answers")
) -> tuple[Answers, Answers]:
    """(truth, predicted), both int64 [N] in the order of `answers`, paired by ImageID.

    Raises InputError with counts and examples if an image of one is not in the other; `names` is what the
    message calls the two, such as their paths.
    """
    refuse(f"{names[0]} and {names[1]} do not match", _differences(submission, answers, names))
    predicted = submission.set_index(ID)[ANSWER].loc[answers[ID]]
    return answers[ANSWER].to_numpy(np.int64), predicted.to_numpy(np.int64)


def vote(answers: Sequence[pd.DataFrame], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Majority vote of at least two submissions, in the first one's order of images.

    Where several answers have the most votes, the one given by the earliest submission among them wins.
    Raises InputError if there are fewer than two or if they do not hold the same images; `names` is what
    the message calls them.
    """
    if len(answers) < 2:
        raise InputError(f"{len(answers)} submission to vote on, expected at least two")
    names = names or [f"submission {number}" for number in range(1, len(answers) + 1)]
    first = answers[0]
    refuse(
        "the submissions do not hold the same images",
        [
            problem
            for other, name in zip(answers[1:], names[1:], strict=True)
            for problem in _differences(other, first, (name, names[0]))
        ],
    )
    votes = np.stack([match(each, first)[1] for each in answers])
    supporters = (votes[:, None, :] == votes[None, :, :]).sum(axis=1)
    # argmax takes the first of equals, which is the earliest submission.
    return pd.DataFrame({ID: first[ID], ANSWER: votes[supporters.argmax(axis=0), np.arange(votes.shape[1])]})


def _read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """(line in the file, the values of `columns`) for every row; InputError if there are none."""
    lines: list[tuple[int, list[str]]] = []
    short: list[str] = []
    with _opened(path, columns) as reader:
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
    refuse(f"{path}: bad rows", short)
    if not lines:
        raise InputError(f"{path}: no rows after the heading, expected one per image")
    return lines


@contextmanager
def _opened(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """A reader of the file's rows; what goes wrong with it is told as an InputError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield csv.reader(file, strict=True)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}), expected {', '.join(columns)}") from None


def _bad_ids(rows: Sequence[tuple[int, Sequence[str]]]) -> list[str]:
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


def _differences(these: pd.DataFrame, those: pd.DataFrame, names: tuple[str, str]) -> list[str]:
    problems = []
    for wanted, held, lacking, having in ((those, these, *names), (these, those, names[1], names[0])):
        absent = wanted[~wanted[ID].isin(held[ID])]
        if len(absent):
            shown = absent[:EXAMPLES]
            told = [f"{name} (row {line})" for line, name in zip(shown.index, shown[ID], strict=True)]
            more = ", ..." if len(absent) > EXAMPLES else ""
            counted = f"{len(absent)} of the {len(wanted)} images of {having}"
            problems.append(f"{lacking} lacks {counted}: {', '.join(told)}{more}")
    return problems
