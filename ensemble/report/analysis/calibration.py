"""Calibration of the heads, error rates by confidence, and the effect of test-time views."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.joint import argmax
from ensemble.metrics.scores import JOINT
from ensemble.report.analysis.compare import Estimates, paired_difference
from ensemble.report.load.evaluation import Codes, Evaluation
from heads.objective.calibration import Floats, Reliability, error_by_confidence, expected_calibration_error, scale
from heads.objective.metrics import macro_f1

CURVE_POINTS = 200


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, 0..1, and reliability of one head, before and after temperature scaling.

    The temperature was fitted on validation people; without one there is nothing after scaling.
    """

    error: float
    before: Reliability
    temperature: float | None = None
    error_scaled: float | None = None
    after: Reliability | None = None


@dataclass(frozen=True)
class ViewsEffect:
    """Effect of merging views on the predictions of one task, or of the joint code.

    Of the `changed` predictions, `better` became right and `worse` became wrong; the rest were wrong before and
    after. `plain` and `merged` are the macro F1 of the identity view alone and of all views.
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
        truth, probabilities = evaluation.true_classes[task], output.probabilities
        if (temperature := evaluation.output_temperatures.get(task)) is not None:
            before = expected_calibration_error(scale(probabilities, 1 / temperature), truth)
            result[task] = Calibration(*before, temperature, *expected_calibration_error(probabilities, truth))
            continue
        before, temperature = expected_calibration_error(probabilities, truth), evaluation.temperatures.get(task)
        if temperature is None:
            result[task] = Calibration(*before)
        else:
            after = expected_calibration_error(scale(probabilities, temperature), truth)
            result[task] = Calibration(*before, temperature, *after)
    return result


def confidence_curves(evaluation: Evaluation) -> dict[str, tuple[Floats, Floats]]:
    """(coverage, error rate), both 0..1, of the most confident predictions.

    Of each head's most probable class, and of the submission under "joint"; at most `CURVE_POINTS` points each.
    """
    pairs = {}
    if evaluation.confidence is not None:
        pairs[JOINT] = (evaluation.confidence.astype(np.float32), evaluation.wrong[JOINT])
    for task, (probabilities, *_) in evaluation.outputs.items():
        pairs[task] = (probabilities.max(axis=1), probabilities.argmax(axis=1) != evaluation.true_classes[task])
    curves = {}
    for name, (confidence, wrong) in pairs.items():
        coverage, error = error_by_confidence(confidence, wrong)
        points = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).astype(int))
        curves[name] = (coverage[points], error[points])
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
