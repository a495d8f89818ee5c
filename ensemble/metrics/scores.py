"""Figures of predictions: macro F1, accuracy, per class, confusion, calibration; scikit-learn's own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from ensemble.joint import class_names as joint_class_names
from ensemble.joint import decode, encode
from heads.objective.metrics import macro_f1

Codes = npt.NDArray[np.integer]
Score = dict[str, Any]
JOINT = "joint"


def score(truth: Codes, predicted: Codes, class_names: Sequence[str]) -> Score:
    """Figures for class indices `truth` and `predicted`, both [N] in 0..C-1, ready for JSON.

    Returns `macro_f1` (over all C classes: one that is neither in truth nor predicted counts as 0, as the
    field does with `labels=range(C), zero_division=0`), `accuracy`, `count` (N), `absent_classes` (names
    without support), `classes` (a list of `name`, `precision`, `recall`, `f1`, `support`, `predicted`) and
    `confusion` [C, C], truth down and prediction across. Raises ValueError for no samples, lengths that
    differ or values out of range.

    >>> figures = score(np.array([0, 1]), np.array([0, 1]), ["wear", "incorrect", "normal"])
    >>> round(figures["macro_f1"], 3), figures["accuracy"], figures["absent_classes"]
    (0.667, 1.0, ['normal'])
    """
    _check_samples(truth, predicted, len(class_names))
    labels = range(len(class_names))
    columns = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    confusion = confusion_matrix(truth, predicted, labels=labels)
    classes = [
        {
            "name": name,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
            "predicted": int(chosen),
        }
        for name, precision, recall, f1, support, chosen in zip(
            class_names, *columns, confusion.sum(axis=0), strict=True
        )
    ]
    return {
        "macro_f1": macro_f1(truth, predicted, len(class_names)),
        "accuracy": float(accuracy_score(truth, predicted)),
        "count": len(truth),
        "absent_classes": [each["name"] for each in classes if each["support"] == 0],
        "classes": classes,
        "confusion": confusion.tolist(),
    }


def score_joint(
    truth_codes: Codes, predicted_codes: Codes, tasks: Mapping[str, Sequence[str]]
) -> dict[str, Score]:
    """`score` of the joint code under "joint" and of every task under its name; `tasks` in the code's order.

    Each class also tells what it costs the joint score, as `joint_cost`. For a joint class that is its share
    of the macro F1 lost, (1 - F1) / C. For a task's class it is the joint macro F1 to be gained if that task
    alone were right on every sample of that class; gains of several classes do not add up.
    """
    if JOINT in tasks:
        raise ValueError(f"a task is named {JOINT!r}, where the joint figures go: give it another name")
    radices = [len(names) for names in tasks.values()]
    names = joint_class_names(tasks)
    _check_samples(truth_codes, predicted_codes, len(names))
    scores = {JOINT: score(truth_codes, predicted_codes, names)}
    for each in scores[JOINT]["classes"]:
        each["joint_cost"] = (1 - each["f1"]) / len(names)
    truth, predicted = decode(truth_codes, radices), decode(predicted_codes, radices)
    for position, (task, task_classes) in enumerate(tasks.items()):
        scores[task] = score(truth[position], predicted[position], task_classes)
        for index, each in enumerate(scores[task]["classes"]):
            mended = list(predicted)
            mended[position] = np.where(truth[position] == index, index, predicted[position])
            reached = macro_f1(truth_codes, encode(mended, radices), len(names))
            each["joint_cost"] = reached - scores[JOINT]["macro_f1"]
    return scores


def expected_calibration_error(probabilities: npt.NDArray[np.floating], truth: Codes, bins: int = 15) -> float:
    """How far confidence is from accuracy, 0 (calibrated) to 1, for `probabilities` [N, C] and `truth` [N].

    The confidence (highest probability) is cut into `bins` equal parts of 0..1, each closed on the right;
    the result is the mean over samples of |accuracy - mean confidence| of their bin. Naeini et al., AAAI
    2015; Guo et al., ICML 2017 (arXiv:1706.04599). Raises ValueError for shapes or values that do not fit.

    >>> round(expected_calibration_error(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])), 6)
    0.3
    """
    if probabilities.ndim != 2 or len(probabilities) != len(truth):
        raise ValueError(f"expected probabilities [{len(truth)}, C], found {list(probabilities.shape)}")
    probabilities = probabilities.astype(np.float64)
    if not ((probabilities >= 0).all() and np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("expected probabilities from 0 to 1 whose rows sum to 1")
    predicted = probabilities.argmax(axis=1)
    _check_samples(truth, predicted, probabilities.shape[1])
    confidence = probabilities.max(axis=1)
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    bin_of = np.searchsorted(edges, confidence)  # left side: a value on an edge belongs to the bin below it
    gap = np.bincount(bin_of, weights=(predicted == truth) - confidence)
    return float(np.abs(gap).sum() / len(truth))


def _check_samples(truth: Codes, predicted: Codes, classes: int) -> None:
    """ValueError unless both are [N] of whole numbers in 0..classes-1 with the same N of at least one."""
    if np.ndim(truth) != 1 or np.shape(truth) != np.shape(predicted):
        raise ValueError(
            f"expected truth and predicted of one length, found {np.shape(truth)} and {np.shape(predicted)}"
        )
    if len(truth) == 0:
        raise ValueError("no samples to score, expected at least one")
    for name, values in (("truth", truth), ("predicted", predicted)):
        if np.asarray(values).dtype.kind not in "iu":
            raise ValueError(f"{name}: expected class indices, found {np.asarray(values).dtype}")
        wrong = [int(value) for value in (np.min(values), np.max(values)) if not 0 <= value < classes]
        if wrong:
            raise ValueError(f"{name}: {wrong[0]} is out of range, expected 0..{classes - 1}")
