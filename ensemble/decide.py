"""Probabilities to the joint answer."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensemble.joint import encode


def argmax(probabilities: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.int64]:
    """The joint code [N] of each task's likeliest class, the most significant task first.

    For heads trained apart it is the likeliest joint class too: the largest product is that of the largest
    factors.

    >>> argmax([np.array([[0.2, 0.8]]), np.array([[0.5, 0.1, 0.4]])]).tolist()
    [3]
    """
    digits = [task.argmax(axis=1) for task in probabilities]
    return np.asarray(encode(digits, [task.shape[1] for task in probabilities]), dtype=np.int64)
