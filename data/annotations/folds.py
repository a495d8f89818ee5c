"""Folds that share no person and hold the classes in equal shares, the same for every head; class balance."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from data.annotations.table import ORIGINAL_SOURCE
from data.runtime.errors import InputError, did_you_mean, raise_all
from data.runtime.files import hold_lock, read_csv, write_csv

MISSING = "missing"
FOLDS_COLUMNS = ("person", "fold")


def read_folds(file: Path, folds: int) -> dict[str, int]:
    """Read the fold of each person from a file of `store_folds`; empty if there is none.

    Raises:
        InputError: all bad lines: a fold that is no number from 0 to folds - 1, or a person twice.
    """
    if not file.exists():
        return {}
    _, rows, problems = read_csv(file, FOLDS_COLUMNS)
    known: dict[str, int] = {}
    for line, row in rows:
        person, fold = row["person"], row["fold"]
        if not (fold.isdecimal() and int(fold) < folds):
            problems.append(f"{file}:{line}: fold={fold!r}, expected a number from 0 to {folds - 1}")
        elif person in known:
            problems.append(f"{file}:{line}: person={person!r} twice, expected each person once")
        else:
            known[person] = int(fold)
    raise_all(f"{file}: the folds cannot be read; restore the file, or name new --runs:", problems)
    return known


def store_folds(file: Path, folds: int, fold_of: Mapping[str, int]) -> None:
    """Add people to `file` (CSV: person, fold), so that nobody is moved later; processes may share it.

    Raises:
        InputError: see `read_folds`; or another process has stored another fold for somebody meanwhile.
    """
    with hold_lock(file.with_name(f".{file.name}.lock"), str(file), waiting=""):
        known = read_folds(file, folds)
        new = {_written_name(person): fold for person, fold in fold_of.items()}
        if any(known.get(person, fold) != fold for person, fold in new.items()):
            raise InputError(
                f"{file}: another training has given folds to the same people meanwhile; start this one again"
            )
        if new.keys() - known.keys():
            write_csv(file, [FOLDS_COLUMNS, *sorted((known | new).items())])


def assign_folds(
    table: pd.DataFrame,
    folds: int,
    strata: Mapping[str, Sequence[float]],
    seed: int,
    known: Mapping[str, int] | None = None,
) -> npt.NDArray[np.int64]:
    """Assign each row of the table (see `data.annotations.table.read_table`) a fold: [N], 0..folds-1.

    No person is in two folds; people of one name count as one. Each source is split separately by scikit-learn's
    StratifiedGroupKFold, so that a person's fold does not depend on which other data were given, on which rows a
    task leaves out afterwards, or on the rows' order. Only people of several sources are in the fold of the first,
    by name, of original images before derived ones (`data.masked`).

    Args:
        table: has all rows of its sources.
        strata: columns by whose combination rows are stratified, in any order, each with its borders: class i
            has borders[i-1] <= value < borders[i]; without borders each value is a class, as is a missing one.
            Where every combination has fewer rows than there are folds, folds are balanced in size alone.
        known: the fold of each person who has one already, as `read_folds` gives it.

    Raises:
        InputError: fewer than two folds, fewer people than folds, or text where borders need numbers.
    """
    if folds < 2:
        raise InputError(f"folds={folds}, expected at least 2 (one to validate on, the rest to train on)")
    people_of = table.groupby("source")["person"].nunique()
    raise_all(
        f"too few people for {folds} folds; add people or ask for fewer folds:",
        [f"{source}: {n} people, expected at least {folds}" for source, n in people_of.items() if n < folds],
    )
    strata_names = [_classes(table[column], strata[column]) for column in sorted(strata) if column in table]
    stratum = np.array(["\n".join(row) for row in zip(*strata_names, strict=True)] or [""] * len(table))
    people, sources = table["person"].to_numpy(str), table["source"].to_numpy(str)
    derived = table[ORIGINAL_SOURCE].notna().to_numpy() if ORIGINAL_SOURCE in table else np.zeros(len(table), bool)
    # Sorted by person and path: scikit-learn's answer depends on the rows' order, ours must not.
    order = np.lexsort((table["path"].to_numpy(str), people))
    known = known or {}
    written = {person: _written_name(person) for person in set(people.tolist())}
    fold_of = {person: known[name] for person, name in written.items() if name in known}
    for source in sorted(set(sources), key=lambda name: (derived[sources == name].any(), name)):
        rows = order[sources[order] == source]
        fold = _split_source(stratum[rows], people[rows], folds, seed)
        fold_of = dict(zip(people[rows].tolist(), fold.tolist(), strict=True)) | fold_of
    return np.array([fold_of[person] for person in people.tolist()], dtype=np.int64)


def missing_strata(strata: Mapping[str, Sequence[float]], columns: Sequence[str]) -> str:
    """Warn of `strata` that no source has as a column, a line each.

    It is no error: heads that are merged share their `split`, and images of masks may have no age.
    """
    return "".join(
        f"split.strata: no source has a column {name!r}; folds are not balanced by it{did_you_mean(name, columns)}\n"
        for name in strata
        if name not in columns
    )


def _written_name(person: str) -> str:
    """Return a person's name as a CSV file can hold it: bytes that are not UTF-8 and line ends are escaped.

    >>> _written_name("anna"), _written_name("a\\udce9\\r")
    ('anna', 'a\\\\udce9\\\\r')
    """
    return person.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")


def _split_source(
    stratum: npt.NDArray[np.str_], people: npt.NDArray[np.str_], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the fold of each row of one source: [N], 0..folds-1."""
    if np.unique(stratum, return_counts=True)[1].max() < folds:
        stratum = np.full_like(stratum, "")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.empty(len(people), dtype=np.int64)
    with warnings.catch_warnings():  # some combinations (incorrect mask, 60 and over) are rare by nature
        warnings.filterwarnings("ignore", "The least populated class in y has only", UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(people, stratum, people)):
            fold[held_out] = number
    return fold


def _classes(column: pd.Series, borders: Sequence[float]) -> list[str]:
    """Return the class of each value of a column, as text."""
    missing = column.isna()
    if not borders:
        return [MISSING if none else f"={value}" for value, none in zip(column, missing, strict=True)]
    numbers = pd.to_numeric(column, errors="coerce")
    bad = column[numbers.isna() & ~missing].unique()
    raise_all(f"{column.name}: expected numbers, since it is cut at {list(borders)}", [f"found {v!r}" for v in bad])
    classes = np.searchsorted(np.sort(borders), numbers.to_numpy(float), side="right")
    return [MISSING if none else str(i) for i, none in zip(classes, missing, strict=True)]


def balanced_weights(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """Class weights (N / (C * n_c)) ** power, [C]; power 1 is scikit-learn's "balanced", 0 is all ones.

    >>> balanced_weights(np.array([5, 1]), 1.0).tolist()
    [0.6, 3.0]
    """
    return np.asarray((counts.sum() / (len(counts) * counts)) ** power)


def sampled_shares(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """Share of an epoch [C] that each class has when its rows are drawn n ** -power as often.

    >>> sampled_shares(np.array([90, 10]), 0.0).tolist(), sampled_shares(np.array([90, 10]), 1.0).tolist()
    ([0.9, 0.1], [0.5, 0.5])
    """
    mass = counts.astype(np.float64) ** (1 - power) * (counts > 0)
    return np.asarray(mass / mass.sum())
