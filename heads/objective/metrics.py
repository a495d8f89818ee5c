"""Metrics of a head on its validation set; macro F1 selects the best epoch and scores every prediction."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def confusion_matrix(
    truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int
) -> npt.NDArray[np.int64]:
    """Counts [C, C] of class indices [N] in 0..classes-1, truth down and prediction across.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    cells = np.bincount(np.asarray(truth) * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def macro_f1_of_confusion(confusion: npt.NDArray[Any]) -> Floats:
    """Macro F1, 0..1, of confusion matrices [..., C, C] over all classes; one without samples counts as 0."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    total = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return np.asarray(f1.mean(axis=-1))


def macro_f1(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int) -> float:
    """Mean F1, 0..1, over all classes of class indices [N]; a class that is in neither counts as 0.

    It is scikit-learn's with `labels=range(classes)` and `zero_division=0`.

    >>> round(macro_f1(np.array([0, 1]), np.array([0, 1]), 3), 3)
    0.667
    """
    return float(macro_f1_of_confusion(confusion_matrix(truth, predicted, classes)))


def compute_metrics(
    probabilities: npt.NDArray[np.floating],
    truth: npt.NDArray[np.integer],
    expected: npt.NDArray[np.floating] | None = None,
    values: npt.NDArray[np.floating] | None = None,
) -> dict[str, float]:
    """Macro F1 and accuracy of probabilities [N, C] against class indices [N].

    With the predicted (`expected`) and true (`values`) numbers [N], also the mean absolute error, `mae`.
    """
    predicted = probabilities.argmax(axis=1)
    accuracy = float((predicted == truth).mean())
    metrics = {"macro_f1": macro_f1(truth, predicted, probabilities.shape[1]), "accuracy": accuracy}
    if expected is not None and values is not None:
        metrics["mae"] = float(np.abs(expected - values).mean())
    return metrics
