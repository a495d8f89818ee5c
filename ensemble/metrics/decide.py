"""Probabilities to the answer: the likeliest class, or the likeliest after multipliers fitted for macro F1.

Macro F1 gives a rare class as much say as a common one, so that the best answer leans towards rare classes
(Lipton, Elkan & Naryanaswamy 2014, arXiv:1402.1892). Multipliers are fitted on people whom no head was trained
on, and can be fitted to a task's classes or to the joint ones.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensemble.joint import encode
from heads.objective.metrics import macro_f1

# Factors that one class is tried at, in turn; finer steps fit the noise of a validation fold.
FACTORS = np.exp(np.linspace(-1.5, 1.5, 31))


def argmax(probabilities: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.int64]:
    """The joint code [N] of each task's likeliest class, the most significant task first.

    For heads trained apart it is the likeliest joint class too: the largest product is that of the largest
    factors.

    >>> argmax([np.array([[0.2, 0.8]]), np.array([[0.5, 0.1, 0.4]])]).tolist()
    [3]
    """
    digits = [task.argmax(axis=1) for task in probabilities]
    return np.asarray(encode(digits, [task.shape[1] for task in probabilities]), dtype=np.int64)


def fit_multipliers(
    probabilities: npt.NDArray[np.floating], truth: npt.NDArray[np.integer], rounds: int = 4
) -> npt.NDArray[np.float64]:
    """Multipliers [C] for classes, whose `(probabilities * multipliers).argmax(axis=1)` has a high macro F1.

    One class after the other is tried at each of `FACTORS`, the rest held; the best stays, the nearest to 1
    among equals. That never ends below the macro F1 of the plain argmax, on the rows that it is fitted to.

    Args:
        probabilities: [N, C], of people no head was trained on.
        truth: class indices [N].
        rounds: passes over the classes; it stops earlier where a pass changes nothing.
    """
    multipliers = np.ones(probabilities.shape[1])
    cautious = FACTORS[np.argsort(np.abs(np.log(FACTORS)), kind="stable")]
    best = macro_f1(truth, (probabilities * multipliers).argmax(axis=1), len(multipliers))
    for _ in range(rounds):
        before = multipliers.copy()
        for place in range(len(multipliers)):
            for factor in cautious:
                tried = multipliers.copy()
                tried[place] = factor
                score = macro_f1(truth, (probabilities * tried).argmax(axis=1), len(multipliers))
                if score > best + 1e-12:
                    best, multipliers = score, tried
        if np.array_equal(before, multipliers):
            break
    return multipliers
