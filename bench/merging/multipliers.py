"""Multipliers of class probabilities, fitted for macro F1.

Macro F1 weighs a rare class as much as a common one, so its best predictions lean towards rare classes (Lipton, Elkan
& Naryanaswamy 2014, arXiv:1402.1892).
"""

import numpy as np
import numpy.typing as npt

from heads.objective.metrics import macro_f1

# Factors that one class is tried at, in turn; finer steps fit the noise of a validation fold.
FACTORS = np.exp(np.linspace(-1.5, 1.5, 31))


def fit_multipliers(
    probabilities: npt.NDArray[np.floating], truth: npt.NDArray[np.integer], rounds: int = 4
) -> npt.NDArray[np.float64]:
    """Fit multipliers [C] for which `(probabilities * multipliers).argmax(axis=1)` has a high macro F1.

    Coordinate ascent: each class in turn is tried at every one of `FACTORS`; the best stays, the nearest to 1 among
    equals. The result is never below the macro F1 of the plain argmax on these rows.

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
