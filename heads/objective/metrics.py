"""Macro F1, the figure that heads are chosen by and answers are judged by."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score


def macro_f1(truth: npt.NDArray[np.integer], answers: npt.NDArray[np.integer], classes: int) -> float:
    """The mean over all classes of F1, 0..1, as scikit-learn has it with `labels=range(classes)`.

    Args:
        truth: class indices [N] in 0..classes-1.
        answers: likewise.
        classes: their number; one that is in neither counts as 0, as it does in the field.

    >>> round(macro_f1(np.array([0, 1]), np.array([0, 1]), 3), 3)
    0.667
    """
    return float(f1_score(truth, answers, labels=range(classes), average="macro", zero_division=0))
