"""Calibration of the heads, error rates by confidence, and the effect of test-time views."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.joint import argmax
from ensemble.metrics.calibration import Reliability, error_by_confidence, expected_calibration_error, scale
from ensemble.metrics.scores import JOINT
from ensemble.report.analysis.compare import Estimates, paired_difference
from ensemble.report.load.evaluation import Codes, Evaluation
from heads.objective.metrics import macro_f1

CURVE_POINTS = 200


@dataclass(frozen=True)
class Calibration:
    """Calibration of one head.

    Attributes:
        error: expected calibration error, 0..1, of the probabilities as they are.
        before: reliability of the same.
        temperature: fitted on validation people, or None if unknown.
        error_scaled, after: error and reliability after temperature scaling, or None.
    """

    error: float
    before: Reliability
    temperature: float | None = None
    error_scaled: float | None = None
    after: Reliability | None = None


@dataclass(frozen=True)
class Curve:
    """Error rate (0..1) of the most confident predictions, by their share (coverage, 0..1)."""

    coverage: list[float]
    error: list[float]


@dataclass(frozen=True)
class ViewsEffect:
    """Effect of merging views on the predictions of one task, or of the joint code.

    Attributes:
        changed, better, worse: predictions that changed; of them those that became right, and those that became
            wrong. The rest were wrong before and after.
        plain, merged: macro F1 of the identity view alone and of all views.
    """

    changed: int
    better: int
    worse: int
    plain: float
    merged: float


def calibrations(evaluation: Evaluation) -> dict[str, Calibration]:
    """Calibration of each head with known probabilities."""
    result = {}
    for task, output in evaluation.outputs.items():
        truth, temperature = evaluation.true_classes[task], evaluation.temperatures.get(task)
        before = expected_calibration_error(output.probabilities, truth)
        if temperature is None:
            result[task] = Calibration(*before)
        else:
            after = expected_calibration_error(scale(output.probabilities, temperature), truth)
            result[task] = Calibration(*before, temperature, *after)
    return result


def confidence_curves(evaluation: Evaluation) -> dict[str, Curve]:
    """Error rate by confidence of each head's most probable class, and of the submission under "joint"."""
    pairs = {}
    if evaluation.confidence is not None:
        pairs[JOINT] = (evaluation.confidence.astype(np.float32), evaluation.wrong[JOINT])
    for task, (probabilities, *_) in evaluation.outputs.items():
        pairs[task] = (probabilities.max(axis=1), probabilities.argmax(axis=1) != evaluation.true_classes[task])
    curves = {}
    for name, (confidence, wrong) in pairs.items():
        coverage, error = error_by_confidence(confidence, wrong)
        points = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).astype(int))
        curves[name] = Curve(coverage[points].tolist(), error[points].tolist())
    return curves


def views_effects(evaluation: Evaluation) -> tuple[dict[str, ViewsEffect], Estimates | None]:
    """(effect of the views on each task and on "joint", paired difference of the joint scores).

    Of the heads whose identity view is known; "joint" and the difference only if it is known of all. It compares
    the heads' most probable classes, which a submission need not consist of.
    """
    plain = {task: each.identity for task, each in evaluation.outputs.items() if each.identity is not None}
    merged = {task: evaluation.outputs[task].probabilities for task in plain}
    effects = {
        task: _effect(evaluation.true_classes[task], plain[task].argmax(1), merged[task].argmax(1), names)
        for task, names in evaluation.tasks.items()
        if task in plain
    }
    if set(plain) != set(evaluation.tasks):
        return effects, None
    before, after = (argmax([each[task] for task in evaluation.tasks]) for each in (plain, merged))
    joint = _effect(evaluation.truth, before, after, evaluation.joint_classes)
    return {JOINT: joint, **effects}, paired_difference(evaluation, after, before)


def _effect(truth: Codes, plain: Codes, merged: Codes, names: Sequence[str]) -> ViewsEffect:
    changed = plain != merged
    return ViewsEffect(
        changed=int(changed.sum()),
        better=int((changed & (merged == truth)).sum()),
        worse=int((changed & (plain == truth)).sum()),
        plain=macro_f1(truth, plain, len(names)),
        merged=macro_f1(truth, merged, len(names)),
    )
