"""Submissions and ground truth as CSV files of ImageID and ans, the joint code."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import prod
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.images.find import ID, MAX_EXAMPLES, read_id_rows
from data.runtime.errors import InputError, raise_all
from data.runtime.files import write_atomically
from ensemble.joint import encode
from heads.config.task import Label

if TYPE_CHECKING:
    import pandas as pd  # functions import it late: predictions need no tables

ANSWER = "ans"

Codes = npt.NDArray[np.int64]


def read_codes(path: Path, classes: int) -> "pd.DataFrame":
    """Read a submission or the ground truth: `ImageID` (text) and `ans` (int64 in 0..classes-1), a row per image.

    The index is the row in the file, for messages. Raises InputError with all bad rows: empty or doubled ids, codes
    that are not integers or out of range.
    """
    import pandas as pd

    rows, problems = read_id_rows(path, [ID, ANSWER])
    for line, row in rows:
        if not re.fullmatch(r"\s*\d{1,9}\s*", row[ANSWER], re.ASCII) or int(row[ANSWER]) >= classes:
            expected = f"expected a whole number from 0 to {classes - 1}"
            problems.append(f"row {line}: {ANSWER}={row[ANSWER][:40]!r}, {expected}")
    raise_all(f"{path}: bad rows", problems)
    codes = np.array([int(row[ANSWER]) for _, row in rows], dtype=np.int64)
    return pd.DataFrame({ID: [row[ID] for _, row in rows], ANSWER: codes}, index=[line for line, _ in rows])


def read_ground_truth(path: Path, labels: Mapping[str, Label]) -> "pd.DataFrame":
    """Read the ground truth of a CSV file, as `read_codes` returns it.

    Args:
        path: it has `ImageID`, and `ans` or, without that, each column that the labels are read from, as a
            labels.csv has them.
        labels: of each task of the joint code, the most significant digit first.

    Raises:
        InputError: neither is there, or bad rows, all of a column at once.
    """
    columns = list(dict.fromkeys(chain.from_iterable(map(_columns_of, labels.values()))))
    table = read_columns(path, [ID], [ANSWER, *columns])
    classes = [len(label.classes) for label in labels.values()]
    if ANSWER in table:
        return read_codes(path, prod(classes))
    if missing := [column for column in columns if column not in table]:
        found = f"found neither {ANSWER} nor {', '.join(missing)}"
        expected = f"expected {ANSWER}, or {', '.join(columns)} beside {ID}"
        raise InputError(f"{path}: row 1: {found}; {expected}")
    from heads.load import build_target  # loads torch, which codes do not need

    named = table.assign(path=[f"{path}: row {row}" for row in table.index])
    digits = [build_target(label).class_indices(named) for label in labels.values()]
    return table[[ID]].assign(**{ANSWER: encode(digits, classes)})


def _columns_of(label: Label) -> list[str]:
    """The columns that a label is read from."""
    return [part.column for part in label.parts] if label.column is None else [label.column]


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str]) -> "pd.DataFrame":
    """Read a CSV file's `columns` and those of `optional` that it has, as text without surrounding blanks.

    The index is the row in the file. Raises InputError if the file, one of `columns` or every row is missing, a
    column comes twice, or with the rows of empty or doubled ids.
    """
    import pandas as pd

    rows, problems = read_id_rows(path, columns, optional)
    raise_all(f"{path}: bad rows", problems)
    values = [{name: row[name] if name == ID else row[name].strip() for name in row} for _, row in rows]
    return pd.DataFrame(values, index=[line for line, _ in rows], dtype=object)


def write_submission(path: Path, ids: Iterable[str], codes: Iterable[int]) -> None:
    """Write image ids and their joint codes as CSV, in that order and atomically."""
    rows = ((name, str(index(code))) for name, code in zip(ids, codes, strict=True))
    write_rows(path, [ID, ANSWER], rows)


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file atomically, one row at a time."""
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def match(
    submission: "pd.DataFrame", truth: "pd.DataFrame", names: tuple[str, str] = ("submission", "answers")
) -> tuple[Codes, Codes]:
    """Pair the joint codes of two tables by ImageID: (truth, predicted), int64 [N] each in the order of `truth`.

    Raises InputError with counts and examples if an image of one is not in the other; `names` is what the
    message calls the two, such as their paths.
    """
    raise_all(f"{names[0]} and {names[1]} do not match", _differences(submission, truth, names))
    predicted = submission.set_index(ID)[ANSWER].loc[truth[ID]]
    return truth[ANSWER].to_numpy(np.int64), predicted.to_numpy(np.int64)


def _differences(these: "pd.DataFrame", those: "pd.DataFrame", names: tuple[str, str]) -> list[str]:
    """Describe the images of each table that the other lacks, with examples."""
    problems = []
    for wanted, found, lacking, having in ((those, these, *names), (these, those, names[1], names[0])):
        absent = wanted[~wanted[ID].isin(found[ID])]
        if len(absent):
            examples = absent[ID].iloc[:MAX_EXAMPLES].items()
            listed = ", ".join(f"{name} (row {line})" for line, name in examples)
            more = ", ..." if len(absent) > MAX_EXAMPLES else ""
            problems.append(f"{lacking} lacks {len(absent)} of the {len(wanted)} images of {having}: {listed}{more}")
    return problems


def vote(submissions: "Sequence[pd.DataFrame]", names: Sequence[str]) -> "pd.DataFrame":
    """Take the majority of at least two submissions for each image, in the first one's order.

    Where several codes have the most votes, that of the earliest submission among them wins. Raises InputError if
    there are fewer than two or if they do not hold the same images; `names` is what the message calls them.
    """
    import pandas as pd

    if len(submissions) < 2:
        raise InputError(f"{len(submissions)} submission to vote on, expected at least two")
    first = submissions[0]
    problems = [
        problem
        for other, name in zip(submissions[1:], names[1:], strict=True)
        for problem in _differences(other, first, (name, names[0]))
    ]
    raise_all("the submissions do not hold the same images", problems)
    votes = np.stack([match(each, first)[1] for each in submissions])
    supporters = (votes[:, None, :] == votes[None, :, :]).sum(axis=1)
    # argmax takes the first of equals, which is the earliest submission.
    return pd.DataFrame({ID: first[ID], ANSWER: votes[supporters.argmax(axis=0), np.arange(votes.shape[1])]})
