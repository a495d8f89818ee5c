"""Facts of a data set, as plain numbers ready for JSON: classes, ages, people, images, duplicates and folds."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.folds import assign_folds, balanced_weights, sampled_shares
from data.annotations.table import number_people
from data.explore.images import ImageInfo, Pairs, find_duplicates, image_facts, inspect_image
from data.runtime.processes import parallel_map
from data.statistics import LEVELS

POWERS = (0.25, 0.5, 1.0)
HISTOGRAM_YEARS = 5
CHUNK = 32
# As in configs/, so that the folds are those of training whatever is explored.
STRATA: Mapping[str, Sequence[float]] = {"gender": (), "age": (30.0, 60.0)}

Facts = dict[str, Any]


def explore(
    table: pd.DataFrame, labels: Sequence[str], ages: Sequence[float], folds: int, against: Sequence[str]
) -> Facts:
    """Compute all facts of a table (see `data.annotations.table.read_table`), ready for JSON.

    `labels` are the columns to count, in the joint code's order; `ages` are the borders of the age classes.
    `against` are paths of another set, such as the images to predict, to search for duplicates; those that the
    table has as well are counted and left out.
    """
    own = table["path"].tolist()
    fold = assign_folds(table, folds, STRATA, seed=0)  # first: too few people end it before the images are decoded
    other = other_images(own, against)
    paths = [*own, *other]
    readable: dict[int, ImageInfo] = {}
    unreadable, levels = [], np.zeros((3, LEVELS), np.int64)
    for row, found in enumerate(parallel_map(inspect_image, paths, chunk=CHUNK)):
        if isinstance(found, str):
            unreadable.append(found)
            continue
        readable[row] = found[0]
        if row < len(own):
            levels += found[1]
    table = table.assign(person=number_people(table))
    pairs = find_duplicates(readable, [*table["person"].tolist(), *[None] * len(other)], fold.tolist())
    in_two_folds = pairs.pop("in_two_folds")
    classes = {name: table[name] for name in labels if name in table}
    if "age" in classes:
        classes["age"] = age_classes(table["age"], ages)
    per_person = table["person"].value_counts().value_counts().sort_index()
    return {
        "sources": sorted(table["source"].unique()),
        "photographs": len(table),
        "people": int(table["person"].nunique()),
        "against": len(other),
        "against_in_data": len(against) - len(other),
        "unreadable": unreadable,
        "labels": {name: class_facts(each) for name, each in classes.items()},
        "unlabelled": {name: int(each.isna().sum()) for name, each in classes.items()},
        "joint": joint_facts(classes) if len(classes) > 1 else [],
        "ages": age_facts(table),
        "photographs_per_person": {str(images): int(people) for images, people in per_person.items()},
        "pictures": image_facts([each for row, each in readable.items() if row < len(own)], levels),
        "duplicates": {
            kind: {"pairs": each.count, "examples": name_pairs(each, paths)} for kind, each in pairs.items()
        },
        "split": fold_facts(table, fold, folds)
        | {"pairs_in_two_folds": in_two_folds.count, "pictures_in_two_folds": name_pairs(in_two_folds, paths)},
    }


def other_images(own: Sequence[str], against: Sequence[str]) -> list[str]:
    """Return the absolute paths of the images `against` that are not among `own`, by whatever links."""
    real_folder = lru_cache(maxsize=None)(os.path.realpath)

    def place(path: str) -> tuple[str, str]:
        folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
        return real_folder(folder), name

    known = set(map(place, own))
    return [os.path.abspath(path) for path in against if place(path) not in known]  # noqa: PTH100


def age_classes(ages: pd.Series, borders: Sequence[float]) -> pd.Series:
    """Return the class of each age as text [N], missing where it has no value.

    >>> age_classes(pd.Series([29.0, 30.0, 75.0, np.nan]), [30, 60]).dropna().tolist()
    ['under 30', '30 to 59', '60 and over']
    """
    names = [f"under {borders[0]:g}", *(f"{low:g} to {high - 1:g}" for low, high in pairwise(borders))]
    return pd.cut(ages, [-np.inf, *borders, np.inf], right=False, labels=[*names, f"{borders[-1]:g} and over"])


def class_facts(classes: pd.Series) -> list[Facts]:
    """Count each class, and compute the class weights and sampler shares that it would get at `POWERS`.

    Empty where no row has a label. Ordered classes keep their order, others are sorted by count.
    """
    counted = classes.value_counts(sort=not isinstance(classes.dtype, pd.CategoricalDtype))
    counts = np.array(counted, dtype=np.int64)
    if not counts.any():
        return []
    weights, shares = {}, {}
    for power in POWERS:
        weights[power] = np.zeros(len(counts))
        weights[power][counts > 0] = balanced_weights(counts[counts > 0], power)
        shares[power] = sampled_shares(counts, power)
    return [
        {
            "name": str(name),
            "count": int(counts[place]),
            "share": float(counts[place] / counts.sum()),
            "class_weight": {f"{power:g}": float(weights[power][place]) for power in POWERS},
            "drawn_share": {f"{power:g}": float(shares[power][place]) for power in POWERS},
        }
        for place, name in enumerate(counted.index)
    ]


def joint_facts(classes: Mapping[str, pd.Series]) -> list[Facts]:
    """Count every combination of classes, also those of no image; the rarest first."""
    labelled = pd.DataFrame({name: each.astype(str).where(each.notna()) for name, each in classes.items()}).dropna()
    counted = Counter(map(tuple, labelled.to_numpy()))
    combinations = product(*(sorted(labelled[name].unique()) for name in labelled))
    return [
        {"name": " / ".join(combined), "count": counted[combined], "share": counted[combined] / len(labelled)}
        for combined in sorted(combinations, key=lambda combined: counted[combined])
    ]


def age_facts(table: pd.DataFrame) -> Facts:
    """Count people (not images) in steps of `HISTOGRAM_YEARS`, one list of counts for each gender.

    >>> age_facts(pd.DataFrame({"person": ["a", "a"], "age": [np.nan, 3.0]}))
    {'edges': [0, 5], 'people': {'all': [1]}}

    >>> age_facts(pd.DataFrame({"person": ["a"], "mask": ["wear"]}))
    {}
    """
    people = table[table["age"].notna()].drop_duplicates("person") if "age" in table else table[:0]
    if people.empty:
        return {}
    groups = people["gender"].fillna("unknown") if "gender" in people else pd.Series("all", index=people.index)
    edges = list(range(0, int(people["age"].max()) + HISTOGRAM_YEARS + 1, HISTOGRAM_YEARS))
    counts = {
        str(name): np.histogram(people["age"][groups == name], bins=edges)[0].tolist()
        for name in sorted(groups.unique())
    }
    return {"edges": edges, "people": counts}


def fold_facts(table: pd.DataFrame, fold: npt.NDArray[np.int64], folds: int) -> Facts:
    """Count images and people of each of the `folds` folds, given each row's [N]."""
    sizes = table.groupby(fold)["person"].agg(["size", "nunique"]).reindex(range(folds), fill_value=0)
    return {
        "folds": [
            {"fold": number, "photographs": int(images), "people": int(people)}
            for number, images, people in sizes.itertuples()
        ],
    }


def name_pairs(pairs: Pairs, paths: Sequence[str]) -> list[list[str]]:
    """Name the examples of pairs of rows by their `paths` [N]."""
    return [[paths[one], paths[other]] for one, other in pairs.examples]
