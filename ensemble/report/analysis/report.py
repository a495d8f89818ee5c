"""All results of an evaluation as values, before they are rendered."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ensemble.metrics.scores import Score, score_joint
from ensemble.report.analysis.calibration import (
    Calibration,
    Curve,
    ViewsEffect,
    calibrations,
    confidence_curves,
    views_effects,
)
from ensemble.report.analysis.compare import Comparison, Estimates, compare
from ensemble.report.analysis.errors import (
    Cause,
    Group,
    NumberErrors,
    WrongPrediction,
    costliest,
    error_causes,
    error_groups,
    number_errors,
    scores_if_right,
    wrong_predictions,
)
from ensemble.report.load.evaluation import Evaluation
from ensemble.report.load.runs import TrainingRun


@dataclass(frozen=True)
class Report:
    """Results of an evaluation; each field is computed by the function of a similar name in this package.

    `scores` are those of `ensemble.metrics.scores.score_joint`, with `macro_f1_interval` and `accuracy_interval`
    (95 %, [low, high]) and, for a head with known probabilities, its `expected_calibration_error`.
    """

    evaluation: Evaluation
    scores: dict[str, Score]
    comparison: Comparison
    scores_if_right: dict[str, float]
    costliest: str
    causes: list[Cause]
    groups: dict[int, list[Group]]
    numbers: list[NumberErrors]
    calibrations: dict[str, Calibration]
    curves: dict[str, Curve]
    views: dict[str, ViewsEffect]
    views_difference: Estimates | None
    wrong: list[WrongPrediction]
    runs: Sequence[TrainingRun]
    notes: Sequence[str]


def analyse(evaluation: Evaluation, runs: Sequence[TrainingRun] = (), notes: Sequence[str] = ()) -> Report:
    """Compute all results of a report."""
    scores = score_joint(evaluation.truth, evaluation.predicted, evaluation.tasks)
    comparison, calibrated = compare(evaluation), calibrations(evaluation)
    for part, estimates in next(iter(comparison.scores.values())).items():
        for metric, estimate in estimates.items():
            scores[part][f"{metric}_interval"] = [estimate.low, estimate.high]
    for task, each in calibrated.items():
        scores[task]["expected_calibration_error"] = each.error
    if_right = scores_if_right(evaluation)
    views, views_difference = views_effects(evaluation)
    return Report(
        evaluation,
        scores,
        comparison,
        if_right,
        costliest(scores, if_right),
        error_causes(evaluation),
        error_groups(evaluation),
        [number_errors(evaluation, number) for number in evaluation.numbers],
        calibrated,
        confidence_curves(evaluation),
        views,
        views_difference,
        wrong_predictions(evaluation),
        runs,
        notes,
    )


def to_json(report: Report) -> dict[str, Any]:
    """Contents of metrics.json: the scores of "joint" and each task, and the other results under "findings"."""
    compared = report.comparison
    findings: dict[str, Any] = {
        "resampled_by": "photograph" if report.evaluation.people is None else "person",
        "costliest": report.costliest,
        "joint_macro_f1_if_right": report.scores_if_right,
        "causes": [asdict(each) for each in report.causes],
        "groups": [asdict(each) for groups in report.groups.values() for each in groups],
        "numbers": {
            each.number.name: [asdict(group) for group in (*each.bins, *each.near)] for each in report.numbers
        },
        "calibration": {task: asdict(each) for task, each in report.calibrations.items()},
        "views": {part: asdict(each) for part, each in report.views.items()},
        "notes": list(report.notes),
    }
    if len(compared.scores) > 1:
        findings["comparison"] = {
            "scores": {name: _plain(each) for name, each in compared.scores.items()},
            "differences": [
                {"first": each.first, "second": each.second, **_plain(each.estimates)}
                for each in compared.differences
            ],
            "disagree": [report.evaluation.ids[row] for row in compared.rows],
        }
    return {**report.scores, "findings": findings}


def _plain(estimates: Estimates) -> dict[str, Any]:
    return {
        part: {metric: asdict(each) for metric, each in metrics.items()} for part, metrics in estimates.items()
    }
