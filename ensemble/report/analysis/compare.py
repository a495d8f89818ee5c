"""How sure the scores are, and how submissions differ on the same resamples of the same people."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ensemble.metrics.bootstrap import accuracy, interval, resampled_confusions, task_confusions
from ensemble.metrics.scores import JOINT, score
from ensemble.report.load.evaluation import Codes, Evaluation
from heads.objective.metrics import macro_f1_of_confusion

SEED = 0
METRICS = {"macro_f1": macro_f1_of_confusion, "accuracy": accuracy}
Draws = dict[str, dict[str, npt.NDArray[np.float64]]]  # joint or task, metric: [draws]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


Estimates = dict[str, dict[str, Estimate]]  # joint or task, metric


@dataclass(frozen=True)
class Difference:
    """`first` minus `second`, of each figure, on the same images and the same resamples."""

    first: str
    second: str
    estimates: Estimates


@dataclass(frozen=True)
class Comparison:
    """Submissions side by side.

    Attributes:
        names: of the submissions.
        scores: of each, with intervals.
        differences: of every pair.
        rows: images on which not all agree, those that tell most apart first.
    """

    names: Sequence[str]
    scores: dict[str, Estimates]
    differences: list[Difference]
    rows: list[int]


def compare(evaluation: Evaluation) -> Comparison:
    """Every submission of `evaluation` with intervals, every pair's difference, and where they disagree."""
    names, answers = list(evaluation.submissions), list(evaluation.submissions.values())
    drawn = dict(zip(names, _draws(evaluation, answers), strict=True))
    found = {name: _figures(evaluation, codes) for name, codes in evaluation.submissions.items()}
    scores = {name: _estimates(found[name], drawn[name]) for name in names}
    differences = [
        Difference(
            first,
            second,
            {
                part: {
                    metric: _estimate(
                        found[first][part][metric] - found[second][part][metric],
                        drawn[first][part][metric] - drawn[second][part][metric],
                    )
                    for metric in METRICS
                }
                for part in found[first]
            },
        )
        for first, second in combinations(names, 2)
    ]
    return Comparison(names, scores, differences, disagreements(evaluation.truth, answers))


def paired_difference(evaluation: Evaluation, first: Codes, second: Codes) -> Estimates:
    """Figures of joint codes `first` minus those of `second`, with paired intervals."""
    pair = Evaluation(
        evaluation.tasks, evaluation.ids, evaluation.truth, {"a": first, "b": second}, evaluation.people
    )
    return compare(pair).differences[0].estimates


def disagreements(truth: Codes, answers: Sequence[Codes]) -> list[int]:
    """Rows where not all `answers` are the same: first where some are right and others wrong."""
    stacked = np.stack(answers)
    apart = (stacked != stacked[0]).any(axis=0)
    decided = (stacked == truth).any(axis=0)
    rows = np.flatnonzero(apart)
    return [int(row) for row in rows[np.argsort(~decided[rows], kind="stable")]]


def _figures(evaluation: Evaluation, codes: Codes) -> dict[str, dict[str, float]]:
    truth, predicted = evaluation.digits(evaluation.truth), evaluation.digits(codes)
    parts = {JOINT: (evaluation.truth, codes, evaluation.joint_classes)}
    parts |= {task: (truth[task], predicted[task], list(names)) for task, names in evaluation.tasks.items()}
    scores = {part: score(*each) for part, each in parts.items()}
    return {part: {metric: each[metric] for metric in METRICS} for part, each in scores.items()}


def _draws(evaluation: Evaluation, answers: Sequence[Codes]) -> list[Draws]:
    confusions = resampled_confusions(
        evaluation.truth,
        answers,
        len(evaluation.joint_classes),
        evaluation.groups,
        np.random.default_rng(SEED),
    )
    results = []
    for joint in confusions:
        parts = {JOINT: joint}
        for place, task in enumerate(evaluation.tasks):
            parts[task] = task_confusions(joint, evaluation.radices, place)
        results.append({part: {m: f(each) for m, f in METRICS.items()} for part, each in parts.items()})
    return results


def _estimates(found: dict[str, dict[str, float]], drawn: Draws) -> Estimates:
    return {
        part: {metric: _estimate(value, drawn[part][metric]) for metric, value in each.items()}
        for part, each in found.items()
    }


def _estimate(value: float, drawn: npt.NDArray[np.float64]) -> Estimate:
    return Estimate(value, *interval(drawn))
