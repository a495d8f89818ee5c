"""Scores of predicted classes: macro F1, accuracy, figures of each class and the confusion matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support

from ensemble.joint import class_names as joint_class_names
from ensemble.joint import decode, encode
from heads.objective.metrics import confusion_matrix, macro_f1, macro_f1_of_confusion

Codes = npt.NDArray[np.int64]
Score = dict[str, Any]
JOINT = "joint"


def accuracy_of_confusion(confusion: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Accuracy, 0..1, of confusion matrices [..., C, C] with at least one sample each."""
    return np.asarray(np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1)))


def score(truth: Codes, predicted: Codes, class_names: Sequence[str]) -> Score:
    """Score class indices `predicted` [N] in 0..C-1 against `truth` [N]; the result can be written as JSON.

    Returns:
        `macro_f1` over all C classes, as scikit-learn computes it with `labels=range(C), zero_division=0`;
        `macro_f1_present`, the mean F1 of the classes with samples; `accuracy`; `count` (N); `absent_classes` (names
        without support); `classes` (a list of `name`, `precision`, `recall`, `f1`, `support`, `predicted`);
        `confusion` [C, C], a row for each true class.

    Raises:
        ValueError: no samples, different lengths, or values out of range.

    >>> figures = score(np.array([0, 1]), np.array([0, 1]), ["wear", "incorrect", "normal"])
    >>> round(figures["macro_f1"], 3), figures["macro_f1_present"], figures["absent_classes"]
    (0.667, 1.0, ['normal'])
    """
    for name, indices in (("truth", truth), ("predicted", predicted)):
        if indices.min() < 0 or indices.max() >= len(class_names):
            found = f"{indices.min()}..{indices.max()}"
            raise ValueError(f"{name}: found classes {found}, expected 0..{len(class_names) - 1}")
    columns = precision_recall_fscore_support(truth, predicted, labels=range(len(class_names)), zero_division=0)
    confusion = confusion_matrix(truth, predicted, len(class_names))
    keys = ("name", "precision", "recall", "f1", "support", "predicted")
    values = [column.tolist() for column in (*columns, confusion.sum(axis=0))]
    classes = [dict(zip(keys, row, strict=True)) for row in zip(class_names, *values, strict=True)]
    return {
        "macro_f1": float(macro_f1_of_confusion(confusion)),
        "macro_f1_present": float(np.mean([each["f1"] for each in classes if each["support"]])),
        "accuracy": float(accuracy_of_confusion(confusion)),
        "count": len(truth),
        "absent_classes": [each["name"] for each in classes if each["support"] == 0],
        "classes": classes,
        "confusion": confusion.tolist(),
    }


def score_joint(truth_codes: Codes, predicted_codes: Codes, tasks: Mapping[str, Sequence[str]]) -> dict[str, Score]:
    """`score` of joint codes [N] under "joint", and of each of `tasks` (most significant digit first) by its name.

    Each class has its `joint_cost` too. For a joint class it is its share of the missing macro F1, (1 - F1) / C.
    For a class of a task it is the gain in joint macro F1 if that task alone were correct on every sample of
    the class; the gains of several classes do not add up.
    """
    if JOINT in tasks:
        raise ValueError(f"a task is named {JOINT!r}, the key of the joint scores: give it another name")
    radices = [len(names) for names in tasks.values()]
    names = joint_class_names(tasks)
    scores = {JOINT: score(truth_codes, predicted_codes, names)}
    for each in scores[JOINT]["classes"]:
        each["joint_cost"] = (1 - each["f1"]) / len(names)
    truth, predicted = decode(truth_codes, radices), decode(predicted_codes, radices)
    for position, (task, task_classes) in enumerate(tasks.items()):
        scores[task] = score(truth[position], predicted[position], task_classes)
        for index, each in enumerate(scores[task]["classes"]):
            corrected = list(predicted)
            corrected[position] = np.where(truth[position] == index, index, predicted[position])
            reached = macro_f1(truth_codes, encode(corrected, radices), len(names))
            each["joint_cost"] = reached - scores[JOINT]["macro_f1"]
    return scores
