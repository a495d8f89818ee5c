"""What the heads themselves say: how sure and how right, and what looking from several views did."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensemble.metrics.calibration import Reliability, error_by_confidence, reliability, scale
from ensemble.metrics.decide import argmax
from ensemble.metrics.scores import JOINT, expected_calibration_error, score
from ensemble.report.analysis.compare import Estimates, paired_difference
from ensemble.report.load.evaluation import Evaluation

CURVE_POINTS = 200


@dataclass(frozen=True)
class Calibration:
    """One head's calibration on the answers.

    Attributes:
        error: expected calibration error, 0..1, of the probabilities as they are.
        before: their reliability.
        temperature: as fitted on validation people, or None where there are none.
        error_scaled, after: the same after scaling by it, or None.
    """

    error: float
    before: Reliability
    temperature: float | None = None
    error_scaled: float | None = None
    after: Reliability | None = None


@dataclass(frozen=True)
class Curve:
    """Error (0..1) among the surest `kept` (share, 0..1) of the answers."""

    kept: list[float]
    error: list[float]


@dataclass(frozen=True)
class ViewsEffect:
    """What merging views changed in one task's answers, or in the joint ones.

    Attributes:
        changed, better, worse: answers that became others; of them wrong ones that became right, and right
            ones that became wrong. The rest were wrong before and after.
        plain, merged: macro F1 of the plain view alone and of all views.
    """

    changed: int
    better: int
    worse: int
    plain: float
    merged: float


def calibrations(evaluation: Evaluation) -> dict[str, Calibration]:
    """Calibration of each head that left probabilities."""
    truth = evaluation.digits(evaluation.truth)
    result = {}
    for task, head in evaluation.heads.items():
        error = expected_calibration_error(head.merged, truth[task])
        before = reliability(head.merged, truth[task])
        temperature = evaluation.temperatures.get(task)
        if temperature is None:
            result[task] = Calibration(error, before)
            continue
        scaled = scale(head.merged, temperature)
        after = reliability(scaled, truth[task])
        result[task] = Calibration(
            error, before, temperature, expected_calibration_error(scaled, truth[task]), after
        )
    return result


def confidence_curves(evaluation: Evaluation) -> dict[str, Curve]:
    """Error against confidence of each head's own answers, and of the submission's under "joint"."""
    truth = evaluation.digits(evaluation.truth)
    pairs = {
        task: (head.merged.max(axis=1), head.merged.argmax(axis=1) != truth[task])
        for task, head in evaluation.heads.items()
    }
    joint = evaluation.answer_probabilities(evaluation.predicted)
    if joint:
        pairs = {JOINT: (joint[JOINT].astype(np.float32), evaluation.wrong()[JOINT]), **pairs}
    curves = {}
    for name, (confidence, wrong) in pairs.items():
        kept, error = error_by_confidence(confidence, wrong)
        points = np.unique(np.linspace(0, len(kept) - 1, CURVE_POINTS).astype(int))
        curves[name] = Curve(kept[points].tolist(), error[points].tolist())
    return curves


def views_effects(evaluation: Evaluation) -> tuple[dict[str, ViewsEffect], Estimates | None]:
    """(effect of the views on each task, and on "joint"; paired difference of the joint answers' figures).

    Only heads whose plain view is known; joint where it is of all. What is compared is the heads' likeliest
    class, whatever else made the submission.
    """
    truth = evaluation.digits(evaluation.truth)
    effects = {}
    for task, head in evaluation.heads.items():
        if head.identity is not None:
            names = evaluation.tasks[task]
            effects[task] = _effect(truth[task], head.identity.argmax(1), head.merged.argmax(1), names)
    if set(effects) != set(evaluation.tasks):
        return effects, None
    heads = [evaluation.heads[task] for task in evaluation.tasks]
    plain = argmax([head.identity for head in heads if head.identity is not None])
    merged = argmax([head.merged for head in heads])
    joint = _effect(evaluation.truth, plain, merged, evaluation.joint_classes)
    return {JOINT: joint, **effects}, paired_difference(evaluation, merged, plain)


def _effect(
    truth: npt.NDArray[np.integer],
    plain: npt.NDArray[np.integer],
    merged: npt.NDArray[np.integer],
    names: Sequence[str],
) -> ViewsEffect:
    changed = plain != merged
    return ViewsEffect(
        changed=int(changed.sum()),
        better=int((changed & (merged == truth)).sum()),
        worse=int((changed & (plain == truth)).sum()),
        plain=score(truth, plain, names)["macro_f1"],
        merged=score(truth, merged, names)["macro_f1"],
    )
