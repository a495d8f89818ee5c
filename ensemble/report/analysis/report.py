"""All that a report says, as values, before any of it is shown."""

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
from ensemble.report.analysis.costs import Cause, costliest, error_causes, scores_if_right
from ensemble.report.analysis.errors import Group, NumberErrors, error_groups, number_errors
from ensemble.report.analysis.mistakes import Mistake, mistakes
from ensemble.report.load.evaluation import Evaluation
from ensemble.report.load.runs import TrainingRun


@dataclass(frozen=True)
class Report:
    """What follows from an `Evaluation`; each field is what the function of that name in this package gives.

    `scores` are those of `ensemble.metrics.scores.score_joint`, with `macro_f1_interval` and `accuracy_interval`
    (95 %, [low, high]) and, where a head's probabilities are known, its `expected_calibration_error`.
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
    mistakes: list[Mistake]
    runs: Sequence[TrainingRun]
    notes: Sequence[str]

    @property
    def resampled(self) -> str:
        """What the bootstrap draws: "person" or "photograph"."""
        return "photograph" if self.evaluation.people is None else "person"


def analyse(evaluation: Evaluation, runs: Sequence[TrainingRun] = (), notes: Sequence[str] = ()) -> Report:
    """Work out everything of a report."""
    scores = score_joint(evaluation.truth, evaluation.predicted, evaluation.tasks)
    compared, calibrated = compare(evaluation), calibrations(evaluation)
    for part, estimates in compared.scores[compared.names[0]].items():
        for metric, estimate in estimates.items():
            scores[part][f"{metric}_interval"] = [estimate.low, estimate.high]
    for task, each in calibrated.items():
        scores[task]["expected_calibration_error"] = each.error
    if_right = scores_if_right(evaluation)
    views, views_difference = views_effects(evaluation)
    return Report(
        evaluation,
        scores,
        compared,
        if_right,
        costliest(scores, if_right),
        error_causes(evaluation),
        error_groups(evaluation),
        [number_errors(evaluation, number) for number in evaluation.numbers],
        calibrated,
        confidence_curves(evaluation),
        views,
        views_difference,
        mistakes(evaluation),
        runs,
        notes,
    )


def to_json(findings: Report) -> dict[str, Any]:
    """metrics.json: the scores of "joint" and each task at the top, the rest under "findings"."""
    compared = findings.comparison
    ids = findings.evaluation.ids
    rest = {
        "resampled_by": findings.resampled,
        "costliest": findings.costliest,
        "joint_macro_f1_if_right": findings.scores_if_right,
        "causes": [asdict(each) for each in findings.causes],
        "groups": [asdict(each) for groups in findings.groups.values() for each in groups],
        "numbers": {
            each.number.name: [asdict(group) for group in (*each.bins, *each.near)] for each in findings.numbers
        },
        "calibration": {task: asdict(each) for task, each in findings.calibrations.items()},
        "views": {part: asdict(each) for part, each in findings.views.items()},
        "notes": list(findings.notes),
    }
    if len(compared.names) > 1:
        rest["comparison"] = {
            "scores": {name: _plain(each) for name, each in compared.scores.items()},
            "differences": [
                {"first": each.first, "second": each.second, **_plain(each.estimates)}
                for each in compared.differences
            ],
            "disagree": [ids[row] for row in compared.rows],
        }
    return {**findings.scores, "findings": rest}


def _plain(estimates: Estimates) -> dict[str, Any]:
    return {
        part: {metric: asdict(each) for metric, each in metrics.items()} for part, metrics in estimates.items()
    }
