"""Submissions, listings and answers: CSV files of ImageID and ans, the joint code."""

import csv
import re
from collections.abc import Iterable, Sequence
from operator import index
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.listing import EXAMPLES, ID, find_bad_ids, open_csv, read_rows
from data.runtime.errors import InputError, raise_all
from data.runtime.files import write_atomically

ANSWER = "ans"

Answers = npt.NDArray[np.int64]


def read_answers(path: Path, classes: int) -> pd.DataFrame:
    """A submission or the right answers: `ImageID` (text), `ans` (int64 in 0..classes-1), a row per image.

    The index is the row in the file, so that whoever refuses an image can say where it stands.
    Raises InputError with all bad rows: empty or doubled ids, answers that are not whole or out of range.
    """
    rows = read_rows(path, [ID, ANSWER])
    expected = f"expected a whole number from 0 to {classes - 1}"
    problems = find_bad_ids(rows)
    for line, (_, answer) in rows:
        if not re.fullmatch(r"\s*\d{1,9}\s*", answer, re.ASCII) or int(answer) >= classes:
            problems.append(f"row {line}: {ANSWER}={answer[:40]!r}, {expected}")
    raise_all(f"{path}: bad rows", problems)
    ids, answers = zip(*(row for _, row in rows), strict=True)
    table = {ID: list(ids), ANSWER: np.array([int(answer) for answer in answers], dtype=np.int64)}
    return pd.DataFrame(table, index=[line for line, _ in rows])


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str]) -> pd.DataFrame:
    """A CSV file's `columns` and those of `optional` that it has, as text without blanks around it.

    The index is the row in the file. Raises InputError if the file, one of `columns` or every row is missing, a
    column comes twice, or with the rows of empty or doubled values in the first of `columns`, an ImageID.
    """
    with open_csv(path, columns) as reader:
        header: list[str] = next(reader, [])
    wanted = [*columns, *(name for name in dict.fromkeys(optional) if name in header)]
    rows = read_rows(path, wanted)
    raise_all(f"{path}: bad rows", find_bad_ids(rows))
    table = [[value.strip() if place else value for place, value in enumerate(row)] for _, row in rows]
    return pd.DataFrame(table, columns=wanted, index=[line for line, _ in rows], dtype=object)


def write_submission(path: Path, ids: Sequence[str], answers: Iterable[int]) -> None:
    """Write `ids` and their joint codes as CSV, in that order; the file appears whole or not at all."""
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
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
    raise_all(f"{names[0]} and {names[1]} do not match", _differences(submission, answers, names))
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
    raise_all(
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
