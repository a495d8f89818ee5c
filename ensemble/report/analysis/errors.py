"""Errors: which task causes them, in which groups of images they occur, and every wrong prediction."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from ensemble.joint import encode
from ensemble.metrics.scores import JOINT, Score
from ensemble.report.load.evaluation import Evaluation, NumericLabel
from heads.objective.metrics import macro_f1

MOST_BINS = 16
NEAR = (2, 5, 10)  # distances to a border, in the unit of the numeric label


@dataclass(frozen=True)
class Cause:
    """Joint errors in which exactly these tasks are wrong: their count and share of all joint errors, 0..1."""

    tasks: tuple[str, ...]
    count: int
    share: float

    @property
    def name(self) -> str:
        return f"{self.tasks[0]} only" if len(self.tasks) == 1 else " and ".join(self.tasks)


@dataclass(frozen=True)
class Group:
    """Images with the same value of each factor in `parts`; `people` is None if unknown.

    `errors` has the error rate, 0..1, of the joint code under "joint" and of each task.
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
    """Errors along a numeric label: in bins of equal width, with their centres, and by distance to a border."""

    number: NumericLabel
    centres: list[float]
    bins: list[Group]
    near: list[Group]


@dataclass(frozen=True)
class TaskResult:
    """Class names of one task on one image, and its probabilities by class name (empty if unknown)."""

    task: str
    truth: str
    predicted: str
    probabilities: dict[str, float]

    @property
    def wrong(self) -> bool:
        return self.truth != self.predicted


@dataclass(frozen=True)
class ImageResult:
    """One image: joint class names, the confidence of the predicted one, and each task's prediction.

    `confidence` is None if unknown. `metadata` has name and value of what else is known, such as ("age", "61").
    """

    image: str
    truth: str
    predicted: str
    confidence: float | None
    tasks: list[TaskResult]
    metadata: list[tuple[str, str]]


def error_causes(evaluation: Evaluation) -> list[Cause]:
    """Every set of tasks that is wrong together at least once, the most frequent first."""
    wrong = evaluation.wrong
    rows = np.flatnonzero(wrong[JOINT])
    counts = Counter(tuple(task for task in evaluation.tasks if wrong[task][row]) for row in rows)
    order = sorted(counts.items(), key=lambda each: (-each[1], len(each[0]), each[0]))
    return [Cause(tasks, count, count / len(rows)) for tasks, count in order]


def scores_if_right(evaluation: Evaluation) -> dict[str, float]:
    """Joint macro F1 if one task alone were always right, by task."""
    reached = {}
    for task in evaluation.tasks:
        classes = evaluation.predicted_classes | {task: evaluation.true_classes[task]}
        codes = encode(list(classes.values()), evaluation.radices)
        reached[task] = macro_f1(evaluation.truth, codes, len(evaluation.joint_classes))
    return reached


def costliest(scores: Mapping[str, Score], if_right: Mapping[str, float]) -> str:
    """One sentence on the task, and its class, whose errors cost the most joint macro F1."""
    joint = scores[JOINT]["macro_f1"]
    task = max(if_right, key=lambda name: if_right[name])
    if if_right[task] <= joint:
        return "No single task costs joint macro F1."
    worst = max(scores[task]["classes"], key=lambda each: each["joint_cost"])
    return (
        f"{task} costs most: were it always right, joint macro F1 would be {if_right[task]:.3f} instead of "
        f"{joint:.3f}; its class {worst['name']} alone takes {worst['joint_cost']:.3f} "
        f"(recall {worst['recall']:.3f}, {worst['support']:,} images)."
    )


def error_groups(evaluation: Evaluation) -> dict[int, list[Group]]:
    """Groups by number of factors: 1, 2, and all tasks; in each the highest joint error rate first.

    Images are grouped by `evaluation.factors`; those of an unknown value are in no group.
    """
    tasks, factors = evaluation.tasks, evaluation.factors
    # A numeric label crossed with a task that is cut from it would add nothing.
    redundant = [{f"{number.name} by tens", task} for number in evaluation.numbers for task in number.task_borders]
    result = {}
    for size in sorted({1, 2, len(tasks)}):
        groups = []
        for names in combinations(factors, size) if size < 3 else [tuple(tasks)]:
            if not any(pair <= set(names) for pair in redundant):
                for values, rows in factors.groupby(list(names), observed=True):
                    parts = {str(name): str(value) for name, value in zip(names, values, strict=True)}
                    groups.append(_group(evaluation, parts, rows.index.to_numpy()))
        result[size] = sorted(groups, key=lambda group: (-group.errors[JOINT], -group.count, group.name))
    return result


def number_errors(evaluation: Evaluation, number: NumericLabel) -> NumberErrors:
    """Errors by `number`, of the images where it is known."""
    known = number.value[~np.isnan(number.value)]
    ticks = MaxNLocator(nbins=MOST_BINS, steps=[1, 2, 5, 10], integer=True)
    # Ticks of a single value would be a rounding error apart.
    edges = list(ticks.tick_values(known.min(), max(known.max(), known.min() + 1)))
    if edges[-1] <= known.max():  # the last tick may be the highest value, which then needs a bin
        edges.append(2 * edges[-1] - edges[-2])
    bins = _intervals(number.value, edges)
    distance = np.abs(number.value[:, None] - np.array(number.borders)).min(axis=1)
    key, near = f"{number.name}, distance to the next border", []
    for low, high, rows in _intervals(distance, (0, *NEAR, np.inf)):
        name = f"{low} and more" if high == np.inf else f"{low} to {high}" if low else f"less than {high}"
        near.append(_group(evaluation, {key: name}, rows))
    return NumberErrors(
        number,
        [(low + high) / 2 for low, high, _ in bins],
        [_group(evaluation, {number.name: f"{low:g} to {high:g}"}, rows) for low, high, rows in bins],
        near,
    )


def hardest(groups: Iterable[Group], part: str, fewest: int = 20) -> Group | None:
    """The group of at least `fewest` images with the highest error rate of `part`; None if all are 0."""
    known = [group for group in groups if group.count >= fewest and group.errors[part] > 0]
    return max(known, key=lambda group: group.errors[part], default=None)


def wrong_predictions(evaluation: Evaluation) -> list[ImageResult]:
    """Every wrong prediction; the most confident first if probabilities are known, else in the order of images."""
    rows = np.flatnonzero(evaluation.wrong[JOINT])
    if evaluation.confidence is not None:
        rows = rows[np.argsort(-evaluation.confidence[rows], kind="stable")]
    return _predictions(evaluation, rows)


def sample_predictions(evaluation: Evaluation, most: int = 12) -> list[ImageResult]:
    """Draw at most `most` right and then as many wrong predictions at random, the same ones for the same answers."""
    rows = np.random.default_rng(0).permutation(len(evaluation.ids))
    wrong = evaluation.wrong[JOINT][rows]
    return _predictions(evaluation, np.concatenate([rows[~wrong][:most], rows[wrong][:most]]))


def _predictions(evaluation: Evaluation, rows: npt.NDArray[np.intp]) -> list[ImageResult]:
    found, confidence = [], evaluation.confidence
    for row in rows.tolist():
        tasks = []
        for task, names in evaluation.tasks.items():
            truth, predicted = evaluation.true_classes[task][row], evaluation.predicted_classes[task][row]
            values = evaluation.outputs[task].probabilities[row].tolist() if task in evaluation.outputs else []
            probabilities = dict(zip(names, values, strict=False))
            tasks.append(TaskResult(task, names[truth], names[predicted], probabilities))
        numbers = [(number.name, number.value[row]) for number in evaluation.numbers]
        metadata = [(name, f"{value:g}") for name, value in numbers if not np.isnan(value)]
        if evaluation.people is not None and not evaluation.people[row].startswith("\n"):
            metadata.append(("person", str(evaluation.people[row])))
        truth, predicted = (evaluation.joint_classes[each[row]] for each in (evaluation.truth, evaluation.predicted))
        sure = None if confidence is None else float(confidence[row])
        found.append(ImageResult(evaluation.ids[row], truth, predicted, sure, tasks, metadata))
    return found


def _intervals(
    values: npt.NDArray[np.float64], edges: Sequence[float]
) -> list[tuple[float, float, npt.NDArray[np.intp]]]:
    """(low, high, rows with low <= value < high) of each pair of neighbouring `edges` with any row."""
    cut = [(low, high, np.flatnonzero((low <= values) & (values < high))) for low, high in pairwise(edges)]
    return [(low, high, rows) for low, high, rows in cut if len(rows)]


def _group(evaluation: Evaluation, parts: dict[str, str], rows: npt.NDArray[np.intp]) -> Group:
    people = None if evaluation.people is None else len(np.unique(evaluation.people[rows]))
    errors = {part: float(wrong[rows].mean()) for part, wrong in evaluation.wrong.items()}
    return Group(parts, len(rows), people, errors)
