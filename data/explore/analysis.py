"""What a data set is made of, as plain numbers ready for JSON: who is rare, who is there twice."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.class_balance import balanced_weights, sampled_shares
from data.annotations.folds import assign_folds
from data.annotations.table import person_name
from data.explore.duplicates import across, exact_groups, near_pairs
from data.explore.survey import ImageInfo
from data.statistics import mean_and_std

POWERS = (0.25, 0.5, 1.0)
HISTOGRAM_YEARS = 5
TOLD = 200  # examples of duplicates and sizes that are listed; all are counted

Facts = dict[str, Any]
Pairs = npt.NDArray[np.int64]


def class_column(table: pd.DataFrame, column: str, borders: Mapping[str, Sequence[float]]) -> pd.Series:
    """A label's classes as text [N], missing where the table has none; numbers are cut at their `borders`.

    >>> ages = pd.DataFrame({"age": [29.0, 30.0, 75.0, np.nan]})
    >>> class_column(ages, "age", {"age": [30, 60]}).dropna().tolist()
    ['under 30', '30 to 59', '60 and over']
    """
    if column not in borders:
        return table[column]
    cuts = sorted(borders[column])
    names = [f"under {cuts[0]:g}"]
    names += [f"{low:g} to {high - 1:g}" for low, high in pairwise(cuts)]
    names.append(f"{cuts[-1]:g} and over")
    numbers = pd.to_numeric(table[column], errors="coerce")
    classes = np.array(names)[np.searchsorted(cuts, numbers.fillna(0), side="right")]
    kinds = pd.CategoricalDtype(names, ordered=True)
    return pd.Series(classes, index=table.index).where(numbers.notna()).astype(kinds)


def class_facts(classes: pd.Series) -> list[Facts]:
    """Each class's count and share, and what class weights and a sampler would make of it at `POWERS`.

    None where nobody has a label.
    """
    if not classes.notna().any():
        return []
    ordered = classes.cat.categories if isinstance(classes.dtype, pd.CategoricalDtype) else None
    counted = classes.value_counts()
    names = [str(name) for name in (counted.index if ordered is None else ordered)]
    counts = np.array([int(counted.get(name, 0)) for name in names], dtype=np.int64)
    present = counts > 0
    weights = {power: np.zeros(len(counts)) for power in POWERS}
    for power in POWERS:
        weights[power][present] = balanced_weights(counts[present], power)
    return [
        {
            "name": name,
            "count": int(counts[place]),
            "share": float(counts[place] / counts.sum()),
            "class_weight": {f"{power:g}": float(weights[power][place]) for power in POWERS},
            "drawn_share": {f"{power:g}": float(sampled_shares(counts, power)[place]) for power in POWERS},
        }
        for place, name in enumerate(names)
    ]


def joint_facts(classes: Mapping[str, pd.Series]) -> list[Facts]:
    """Count and share of every combination of classes, also of those that nobody is in; the rarest first."""
    columns = pd.DataFrame({name: each.astype(str).where(each.notna()) for name, each in classes.items()})
    whole = columns.dropna()
    counted = Counter(map(tuple, whole.to_numpy()))
    combinations = product(*(sorted(whole[name].unique()) for name in columns))
    return [
        {"name": " / ".join(combined), "count": counted[combined], "share": counted[combined] / len(whole)}
        for combined in sorted(combinations, key=lambda combined: counted[combined])
    ]


def age_facts(table: pd.DataFrame, by: str = "gender") -> Facts:
    """People (not images) in steps of `HISTOGRAM_YEARS`, one list of counts for each value of `by`.

    >>> age_facts(pd.DataFrame({"person": ["a"], "mask": ["wear"]}))
    {}
    """
    if "age" not in table:
        return {}
    people = table.drop_duplicates("person")
    people = people[people["age"].notna()]
    if people.empty:
        return {}
    groups = people[by].fillna("unknown") if by in people else pd.Series("all", index=people.index)
    last = int(people["age"].max()) // HISTOGRAM_YEARS + 1
    edges = [HISTOGRAM_YEARS * step for step in range(last + 1)]
    counts = {
        str(name): np.histogram(people["age"][groups == name], bins=edges)[0].tolist()
        for name in sorted(groups.unique())
    }
    return {"edges": edges, "people": counts}


def image_facts(seen: Sequence[ImageInfo]) -> Facts:
    """Sizes, formats and the channels' mean and standard deviation of the images that can be read."""
    if not seen:
        return {}
    sizes = Counter(f"{each.width} x {each.height}" for each in seen)
    widths, heights = [each.width for each in seen], [each.height for each in seen]
    mean, std = mean_and_std(np.sum([each.levels for each in seen], axis=0))
    return {
        "sizes": dict(sizes.most_common(TOLD)),
        "different_sizes": len(sizes),
        "width": _spread(widths),
        "height": _spread(heights),
        "formats": dict(Counter(each.kind for each in seen).most_common()),
        "megabytes": sum(each.file_bytes for each in seen) / 1e6,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def duplicate_pairs(seen: Sequence[ImageInfo], people: Sequence[str | None]) -> dict[str, Pairs]:
    """All pairs of images that are one image or nearly so: for each kind their places, [P, 2].

    People's own images are alike by nature, so that near duplicates are told across people only. Who is on
    the images of another set is not known: they are compared with those of the data alone.

    Args:
        seen: the images [N].
        people: whose each is, [N]; None for one of another set.
    """
    outside = np.array([person is None for person in people], dtype=bool)
    sets = ["against" if each else "data" for each in outside]
    digests, owners = _codes([each.digest for each in seen]), _codes([person or "" for person in people])
    same = _pairs_within(exact_groups(digests))
    near = across(near_pairs(np.array([each.fingerprint for each in seen], dtype=np.uint64)), digests)
    own = _pairs_within(exact_groups([" ".join(each) for each in zip(owners, digests, strict=True)]))
    return {
        "same_person": own[~outside[own].any(axis=1)],
        "across_people": across(same[~outside[same].any(axis=1)], owners),
        "between_sets": across(same, sets),
        "near_across_people": across(near[~outside[near].any(axis=1)], owners),
        "near_between_sets": across(near, sets),
    }


def duplicate_facts(pairs: Mapping[str, Pairs], paths: Sequence[str]) -> Facts:
    """How many pairs [P, 2] of each kind there are, and the `paths` [N] of the first `TOLD`."""
    return {kind: {"pairs": len(each), "examples": _named(each, paths)} for kind, each in pairs.items()}


def fold_facts(table: pd.DataFrame, folds: int, strata: Mapping[str, Sequence[float]], twins: Pairs) -> Facts:
    """Images and people of each fold as training makes them, and who is in two: by name, by image.

    `twins` are pairs of the table's rows, [P, 2], that hold one image under different names.
    """
    fold = assign_folds(table, folds, strata, seed=0)
    by_person = table.assign(fold=fold).groupby("person")["fold"].nunique()
    split = twins[fold[twins[:, 0]] != fold[twins[:, 1]]]
    return {
        "folds": [
            {
                "fold": number,
                "photographs": int((fold == number).sum()),
                "people": int(table["person"][fold == number].nunique()),
            }
            for number in range(folds)
        ],
        "people_in_two_folds": [person_name(name) for name in by_person.index[by_person > 1]],
        "pairs_in_two_folds": len(split),
        "images_in_two_folds": _named(split, table["path"].tolist()),
    }


def _codes(names: Sequence[str]) -> list[str]:
    """A short name for each name: millions of pairs are compared by it."""
    return [str(code) for code in np.unique(names, return_inverse=True)[1]]


def _pairs_within(groups: Sequence[Sequence[int]]) -> Pairs:
    """All pairs (i, j), i < j, of each group of places: [P, 2]."""
    found = [np.array(group)[np.stack(np.triu_indices(len(group), 1), axis=1)] for group in groups]
    return np.concatenate([np.empty((0, 2), np.int64), *found])


def _named(pairs: Pairs, paths: Sequence[str]) -> list[list[str]]:
    return [[paths[one], paths[other]] for one, other in pairs[:TOLD].tolist()]


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"least": int(min(values)), "median": float(np.median(values)), "most": int(max(values))}


def counts_per_person(table: pd.DataFrame) -> dict[str, int]:
    """How many people have how many images.

    >>> counts_per_person(pd.DataFrame({"person": ["a", "a", "b"]}))
    {'1': 1, '2': 1}
    """
    counts = Counter(table["person"].value_counts().tolist())
    return {str(number): people for number, people in sorted(counts.items())}
