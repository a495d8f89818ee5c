"""Bootstrap intervals of the scores, and differences between submissions on the same resamples."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ensemble.metrics.bootstrap import interval, resampled_confusions, task_confusions
from ensemble.metrics.scores import JOINT, accuracy_of_confusion
from ensemble.report.load.evaluation import Codes, Evaluation
from heads.objective.metrics import confusion_matrix, macro_f1_of_confusion

SEED = 0
Values = dict[str, dict[str, npt.NDArray[np.float64]]]  # by joint or task, then by metric: [1 + draws]
METRICS = {"macro_f1": macro_f1_of_confusion, "accuracy": accuracy_of_confusion}


@dataclass(frozen=True)
class Estimate:
    """A score and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


Estimates = dict[str, dict[str, Estimate]]  # by joint or task, then by metric


@dataclass(frozen=True)
class Comparison:
    """Scores of each submission, and of the first minus the second of each pair on the same resamples.

    `rows` are the images on which not all submissions agree, first those that some of them have right.
    """

    scores: dict[str, Estimates]
    differences: dict[tuple[str, str], Estimates]
    rows: list[int]


def compare(evaluation: Evaluation) -> Comparison:
    """Estimate the scores of every submission of `evaluation` and the difference of every pair."""
    truth, submissions = evaluation.truth, evaluation.submissions
    codes, classes = list(submissions.values()), len(evaluation.joint_classes)
    draws = resampled_confusions(truth, codes, classes, evaluation.groups, np.random.default_rng(SEED))
    values = {}
    for name, each, resampled in zip(submissions, codes, draws, strict=True):
        observed = confusion_matrix(truth, each, classes)
        values[name] = _scores(evaluation, np.concatenate([observed[None], resampled]))
    stacked = np.stack(codes)
    differ = np.flatnonzero((stacked != stacked[0]).any(axis=0))
    none_right = (stacked != truth).all(axis=0)
    return Comparison(
        {name: _estimates(each) for name, each in values.items()},
        {(a, b): _estimates(values[a], values[b]) for a, b in combinations(values, 2)},
        differ[np.argsort(none_right[differ], kind="stable")].tolist(),
    )


def paired_difference(evaluation: Evaluation, first: Codes, second: Codes) -> Estimates:
    """Scores of joint codes `first` [N] minus those of `second` [N], with paired intervals."""
    return compare(replace(evaluation, submissions={"a": first, "b": second})).differences["a", "b"]


def _scores(evaluation: Evaluation, confusions: npt.NDArray[np.float64]) -> Values:
    """Scores of the joint confusion matrices [1 + draws, C, C]: observed, then resampled."""
    parts = {JOINT: confusions}
    for position, task in enumerate(evaluation.tasks):
        parts[task] = task_confusions(confusions, evaluation.radices, position)
    return {part: {name: metric(each) for name, metric in METRICS.items()} for part, each in parts.items()}


def _estimates(values: Values, minus: Values | None = None) -> Estimates:
    result: Estimates = {}
    for part, metrics in values.items():
        for name, each in metrics.items():
            difference = each - (0 if minus is None else minus[part][name])
            result.setdefault(part, {})[name] = Estimate(float(difference[0]), *interval(difference[1:]))
    return result
