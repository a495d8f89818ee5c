"""Folds that share no person and hold the classes in equal shares, the same for every head; class balance."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from data.annotations.table import original_person
from data.runtime.errors import InputError, did_you_mean, raise_all

MISSING = "missing"


def assign_folds(
    table: pd.DataFrame, folds: int, strata: Mapping[str, Sequence[float]], seed: int
) -> npt.NDArray[np.int64]:
    """Assign each row of the table (see `data.annotations.table.read_table`) a fold: [N], 0..folds-1.

    No person is in two folds. Each source is split separately by scikit-learn's StratifiedGroupKFold, so that a
    person's fold does not depend on which other data were given, on which rows a task leaves out afterwards, or
    on the rows' order. Only derived images (`data.masked`) follow the people they were made from, if those are
    given, else the first source, by name, that was derived from the same.

    Args:
        table: has all rows of its sources.
        strata: columns by whose combination rows are stratified, in any order, each with its borders: class i
            has borders[i-1] <= value < borders[i]; without borders each value is a class, as is a missing one.
            Where every combination has fewer rows than there are folds, folds are balanced in size alone.

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
    if table.groupby("person")["source"].nunique().max() > 1:
        raise ValueError("a person belongs to two sources, expected names that differ between sources")
    strata_names = [_classes(table[column], strata[column]) for column in sorted(strata) if column in table]
    stratum = np.array(["\n".join(row) for row in zip(*strata_names, strict=True)] or [""] * len(table))
    people, sources = table["person"].to_numpy(str), table["source"].to_numpy(str)
    # Sorted by person and path: scikit-learn's answer depends on the rows' order, ours must not.
    order = np.lexsort((table["path"].to_numpy(str), people))
    fold = np.empty(len(table), dtype=np.int64)
    for source in np.unique(sources):
        rows = order[sources[order] == source]
        fold[rows] = _split_source(stratum[rows], people[rows], folds, seed)
    return _move_to_original_folds(table["person"], fold)


def missing_strata(strata: Mapping[str, Sequence[float]], columns: Sequence[str]) -> str:
    """Warn of `strata` that no source has as a column, a line each.

    It is no error: heads that are merged share their `split`, and images of masks may have no age.
    """
    return "".join(
        f"split.strata: no source has a column {name!r}; folds are not balanced by it{did_you_mean(name, columns)}\n"
        for name in strata
        if name not in columns
    )


def _move_to_original_folds(people: pd.Series, fold: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the folds [N] with the images derived from a person in that person's fold.

    >>> names = ["a-00000001/ann", "b-00000002/a-00000001/ann", "b-00000002/carl"]
    >>> _move_to_original_folds(pd.Series(names), np.arange(3))
    array([0, 0, 2])
    """
    names = people.tolist()
    originals = list(map(original_person, names))
    of: dict[str, int] = {}
    for name, original, own_fold in sorted(zip(names, originals, fold.tolist(), strict=True)):
        if name == original:
            of[original] = own_fold
        of.setdefault(original, own_fold)
    return np.array([of[original] for original in originals], dtype=np.int64)


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
