"""All results of an evaluation as values, before they are rendered."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ensemble.metrics.scores import Score, score_joint
from ensemble.report.analysis import calibration, errors
from ensemble.report.analysis.compare import Comparison, Estimates, compare
from ensemble.report.load.evaluation import Evaluation
from ensemble.report.load.runs import TrainingRun
from heads.objective.calibration import Floats


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
    causes: list[errors.Cause]
    groups: dict[int, list[errors.Group]]
    numbers: list[errors.NumberErrors]
    calibrations: dict[str, calibration.Calibration]
    curves: dict[str, tuple[Floats, Floats]]
    views: dict[str, calibration.ViewsEffect]
    views_difference: Estimates | None
    wrong: list[errors.ImageResult]
    runs: Sequence[TrainingRun]
    notes: Sequence[str]


def analyse(evaluation: Evaluation, runs: Sequence[TrainingRun] = (), notes: Sequence[str] = ()) -> Report:
    """Compute all results of a report."""
    scores = score_joint(evaluation.truth, evaluation.predicted, evaluation.tasks)
    comparison, calibrated = compare(evaluation), calibration.calibrations(evaluation)
    for part, estimates in next(iter(comparison.scores.values())).items():
        for metric, estimate in estimates.items():
            scores[part][f"{metric}_interval"] = [estimate.low, estimate.high]
    for task, each in calibrated.items():
        given = each.error_scaled if task in evaluation.output_temperatures else each.error
        scores[task]["expected_calibration_error"] = given
    if_right = errors.scores_if_right(evaluation)
    views, views_difference = calibration.views_effects(evaluation)
    return Report(
        evaluation,
        scores,
        comparison,
        if_right,
        errors.costliest(scores, if_right),
        errors.error_causes(evaluation),
        errors.error_groups(evaluation),
        [errors.number_errors(evaluation, number) for number in evaluation.numbers],
        calibrated,
        calibration.confidence_curves(evaluation),
        views,
        views_difference,
        errors.wrong_predictions(evaluation),
        runs,
        notes,
    )


def to_json(report: Report) -> dict[str, Any]:
    """Contents of metrics.json: the scores of "joint" and each task, and the other results under "findings"."""
    findings: dict[str, Any] = {
        "resampled_by": "photograph" if report.evaluation.people is None else "person",
        "costliest": report.costliest,
        "joint_macro_f1_if_right": report.scores_if_right,
        "causes": [asdict(each) for each in report.causes],
        "groups": [asdict(each) for groups in report.groups.values() for each in groups],
        "numbers": {each.number.name: [asdict(group) for group in (*each.bins, *each.near)] for each in report.numbers},
        "calibration": {task: asdict(each) for task, each in report.calibrations.items()},
        "views": {part: asdict(each) for part, each in report.views.items()},
        "notes": list(report.notes),
    }
    if report.comparison.differences:
        plain = asdict(report.comparison)
        findings["comparison"] = {
            "scores": plain["scores"],
            "differences": [{"first": a, "second": b, **each} for (a, b), each in plain["differences"].items()],
            "disagree": [report.evaluation.ids[row] for row in report.comparison.rows],
        }
    return {**report.scores, "findings": findings}
