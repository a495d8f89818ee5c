"""What an imbalance of classes is worth: weights for a loss, and how often a sampler draws each class."""

import numpy as np
import numpy.typing as npt


def balanced_weights(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """Class weights (N / (C * n_c)) ** power, [C]; power 1 is scikit-learn's "balanced", 0 is all ones.

    >>> balanced_weights(np.array([5, 1]), 1.0).tolist()
    [0.6, 3.0]
    """
    return np.asarray((counts.sum() / (len(counts) * counts)) ** power)


def sampled_shares(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float64]:
    """Share of an epoch [C] that each class has when its rows are drawn n ** -power as often.

    >>> sampled_shares(np.array([90, 10]), 0.0).tolist(), sampled_shares(np.array([90, 10]), 1.0).tolist()
    ([0.9, 0.1], [0.5, 0.5])
    """
    mass = counts.astype(np.float64) ** (1 - power) * (counts > 0)
    return np.asarray(mass / mass.sum())
