"""What tables know of images: who is in them, and numbers such as age in years."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.listing import ID
from data.runtime.errors import raise_all
from ensemble.files.submission import read_columns
from ensemble.report.load.evaluation import Number

PERSON_COLUMNS = ("person", "id")


def read_people(table: pd.DataFrame, ids: Sequence[str]) -> tuple[npt.NDArray[np.str_] | None, int]:
    """(who each of `ids` shows [N], how many of them are not known), from `table`'s column person, else id.

    An image of nobody known stands for a person of its own. None if the table has no such column, or no
    value in it for any of `ids`.
    """
    column = next((name for name in PERSON_COLUMNS if name in table.columns), None)
    if column is None:
        return None, len(ids)
    told = dict(zip(table[ID], table[column], strict=True))
    people = [told.get(name, "") for name in ids]
    unknown = people.count("")
    if unknown == len(ids):
        return None, unknown
    # The mark keeps an image's name from meeting that of a person.
    return np.array([who or f"\n{name}" for who, name in zip(people, ids, strict=True)], dtype=np.str_), unknown


def read_numbers(
    path: Path,
    table: pd.DataFrame,
    ids: Sequence[str],
    cuts: Mapping[str, Mapping[str, Sequence[float]]],
) -> list[Number]:
    """The numbers in `table` that tasks are cut from, in the order of `ids`.

    Args:
        path: where the table comes from, for messages.
        table: ImageID and columns of text, its index the rows in the file.
        ids: the images wanted.
        cuts: columns with the borders of each task cut from them (`ensemble.config.numeric_borders`).

    Raises:
        InputError: values that are no numbers, all rows at once.
    """
    numbers, problems = [], []
    for column, borders in cuts.items():
        if column not in table.columns:
            continue
        told = {}
        for line, name, text in zip(table.index, table[ID], table[column], strict=True):
            told[name] = _number(text)
            if told[name] is None:
                problems.append(f"row {line}: {column}={text!r}, expected a number or nothing")
        values = np.array([told.get(name) for name in ids], dtype=np.float64)
        if not np.isnan(values).all():
            numbers.append(Number(column, borders, values))
    raise_all(f"{path}: bad rows", problems)
    return numbers


def read_table(path: Path, numbers: Iterable[str]) -> pd.DataFrame:
    """ImageID and those columns of `path` that tell of people and numbers, as text; the index is the row."""
    return read_columns(path, [ID], [*PERSON_COLUMNS, *numbers])


def _number(text: str) -> float | None:
    """The number that `text` is, NaN for nothing, None for anything else."""
    if not text.strip():
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
