"""Who the errors fall on: by true class of each task, by years, by every pair, by joint class."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ensemble.metrics.scores import JOINT
from ensemble.report.load.evaluation import Evaluation, Number

MOST_BINS = 16
NEAR = (2, 5, 10)  # distances to a border, in the number's unit


@dataclass(frozen=True)
class Group:
    """Images that share what `parts` say (factor: value).

    Attributes:
        parts: what they share.
        count: images.
        people: how many different ones, or None where that is not known.
        errors: share of wrong answers, 0..1, under "joint" and each task.
    """

    parts: dict[str, str]
    count: int
    people: int | None
    errors: dict[str, float]

    @property
    def name(self) -> str:
        return " / ".join(self.parts.values())


@dataclass(frozen=True)
class NumberErrors:
    """Errors along a number: even bins of it (`low` <= number < `high`), and by distance to the next border."""

    number: Number
    low: list[float]
    high: list[float]
    bins: list[Group]
    near: list[Group]


def error_groups(evaluation: Evaluation) -> dict[int, list[Group]]:
    """Groups by how many factors they share: 1, 2, and all tasks; in each the highest joint error first.

    Factors are the true classes of each task, and each number cut at its borders and evenly between them.
    """
    truth = evaluation.digits(evaluation.truth)
    factors = {task: np.array(names)[truth[task]] for task, names in evaluation.tasks.items()}
    every = factors | {_bands_name(number): _bands(number) for number in evaluation.numbers}
    cut = {_bands_name(number): number.cuts.keys() for number in evaluation.numbers}
    result: dict[int, list[Group]] = {}
    for size in sorted({1, 2, len(factors)}):
        chosen = list(combinations(every, size)) if size < 3 else [tuple(factors)]
        # A number beside a task that is cut from it would say the same twice.
        chosen = [names for names in chosen if not any(cut.get(name, set()) & set(names) for name in names)]
        result[size] = _ordered(each for names in chosen for each in _grouped(evaluation, names, every))
    return result


def number_errors(evaluation: Evaluation, number: Number) -> NumberErrors:
    """Errors by `number`, of the images where it is known."""
    known = number.measured[~np.isnan(number.measured)]
    ticks = MaxNLocator(nbins=MOST_BINS, steps=[1, 2, 5, 10], integer=True)
    # Ticks of a single number would lie a rounding error apart.
    edges = np.asarray(ticks.tick_values(known.min(), max(known.max(), known.min() + 1)))
    if edges[-1] <= known.max():
        # Ticks may end at the highest number itself, which then opens a bin of its own.
        edges = np.append(edges, 2 * edges[-1] - edges[-2])
    place = np.searchsorted(edges, number.measured, side="right") - 1
    places = [index for index in range(len(edges) - 1) if (place == index).any()]
    distance = np.abs(number.measured[:, None] - np.array(number.borders)).min(axis=1)
    ring = np.where(np.isnan(distance), -1, np.searchsorted(NEAR, distance, side="right"))
    told = [f"less than {NEAR[0]}", *(f"{low} to {high}" for low, high in pairwise(NEAR))]
    told.append(f"{NEAR[-1]} and more")
    return NumberErrors(
        number,
        [float(edges[index]) for index in places],
        [float(edges[index + 1]) for index in places],
        [_group(evaluation, {number.name: f"{edges[i]:g} to {edges[i + 1]:g}"}, place == i) for i in places],
        [
            _group(evaluation, {f"{number.name}, distance to the next border": name}, ring == index)
            for index, name in enumerate(told)
            if (ring == index).any()
        ],
    )


def _bands_name(number: Number) -> str:
    return f"{number.name} by tens"


def _bands(number: Number) -> npt.NDArray[np.str_]:
    """[N]: tens of the number, cut at its borders too; empty where it is unknown."""
    tens = np.floor(number.measured / 10) * 10
    low = np.max([tens, *(np.where(number.measured >= b, b, -np.inf) for b in number.borders)], axis=0)
    high = np.min([tens + 10, *(np.where(number.measured < b, b, np.inf) for b in number.borders)], axis=0)
    return np.array(
        ["" if np.isnan(a) else f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True)], dtype=np.str_
    )


def _grouped(
    evaluation: Evaluation, names: tuple[str, ...], factors: dict[str, npt.NDArray[np.str_]]
) -> list[Group]:
    table = pd.DataFrame({name: factors[name] for name in names})
    groups = []
    for values, rows in table.groupby(list(names), sort=False).indices.items():
        parts = dict(zip(names, values if isinstance(values, tuple) else (values,), strict=True))
        if all(parts.values()):
            mask = np.zeros(len(table), dtype=bool)
            mask[rows] = True
            groups.append(_group(evaluation, {name: str(value) for name, value in parts.items()}, mask))
    return groups


def _group(evaluation: Evaluation, parts: dict[str, str], mask: npt.NDArray[np.bool_]) -> Group:
    people = None if evaluation.people is None else len(np.unique(evaluation.people[mask]))
    errors = {name: float(wrong[mask].mean()) for name, wrong in evaluation.wrong().items()}
    return Group(parts, int(mask.sum()), people, errors)


def _ordered(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (-group.errors[JOINT], -group.count, group.name))


def hardest(groups: Iterable[Group], part: str, fewest: int = 20) -> Group | None:
    """The group of at least `fewest` images in which `part` is wrong most often; None if it never is."""
    known = [group for group in groups if group.count >= fewest and group.errors[part] > 0]
    return max(known, key=lambda group: group.errors[part], default=None)
