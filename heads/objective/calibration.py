"""Calibration of predicted probabilities: expected calibration error, temperature scaling, risk and coverage."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Probabilities = npt.NDArray[np.floating]
BINS = 15
LOWEST, HIGHEST = 0.05, 20.0  # temperatures


@dataclass(frozen=True)
class Reliability:
    """Bins of confidence that are not empty: mean confidence, accuracy (both 0..1) and number of samples."""

    confidence: list[float]
    accuracy: list[float]
    count: list[int]


def expected_calibration_error(
    probabilities: Probabilities, truth: Codes, bins: int = BINS
) -> tuple[float, Reliability]:
    """Expected calibration error, 0 (calibrated) to 1, and the bins that it is computed from.

    The confidence (highest probability) is cut into equal parts of 0..1, each closed on the right; the error is
    the mean over samples of |accuracy - mean confidence| of their bin. Naeini et al., AAAI 2015; Guo et al.,
    ICML 2017 (arXiv:1706.04599).

    Args:
        probabilities: [N, C].
        truth: class indices [N].
        bins: number of parts.

    Raises:
        ValueError: rows that are no probabilities.

    >>> error, bins = expected_calibration_error(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]))
    >>> round(error, 6), bins.accuracy, bins.count
    (0.3, [0.5], [2])
    """
    probabilities = probabilities.astype(np.float64)
    if not ((probabilities >= 0).all() and np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("expected probabilities from 0 to 1 whose rows sum to 1")
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = predicted == truth
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    places = np.searchsorted(edges, confidence)  # side="left": a value on an edge is in the bin below it

    def total(values: npt.NDArray[np.floating]) -> Floats:
        return np.bincount(places, weights=values, minlength=bins).astype(np.float64)

    count = np.bincount(places, minlength=bins)
    used = count > 0
    mean_confidence, accuracy = (total(values)[used] / count[used] for values in (confidence, correct))
    error = np.abs(total(correct - confidence)).sum() / len(truth)
    return float(error), Reliability(mean_confidence.tolist(), accuracy.tolist(), count[used].tolist())


def scale(probabilities: Probabilities, temperature: float) -> Floats:
    """Probabilities [N, C] after temperature scaling: the softmax of their logarithms / temperature.

    For probabilities that are the softmax of logits it is the softmax of logits / temperature.

    >>> scale(np.array([[0.8, 0.2]]), 1.0).round(6).tolist()
    [[0.8, 0.2]]
    """
    logs = _logs(probabilities) / temperature
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))  # scipy.special.softmax, which takes longer to import
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def calibrate(probabilities: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Scale probabilities [N, C] as `scale` does, in single precision; the most probable class stays the same."""
    if temperature == 1:
        return probabilities
    scaled = scale(probabilities, temperature).astype(np.float32)
    first = probabilities.argmax(axis=1)
    rows = np.flatnonzero(scaled.argmax(axis=1) != first)  # equal now, by rounding
    scaled[rows, first[rows]] = np.nextafter(scaled[rows].max(axis=1), np.float32(1))
    return scaled


def fit_temperature(probabilities: Probabilities, truth: Codes) -> float:
    """Temperature, 0.05 to 20, with the lowest log loss of the scaled `probabilities` [N, C] on `truth` [N].

    Guo et al., ICML 2017 (arXiv:1706.04599). Fit it on people that are not trained on. Without a wrong prediction it
    is 1: the log loss would fall with the temperature, however sure the predictions are.
    """
    from scipy.optimize import minimize_scalar  # late: predictions need no SciPy
    from scipy.special import log_softmax

    logs, rows = _logs(probabilities), np.arange(len(truth))
    if (logs.argmax(axis=1) == truth).all():
        return 1.0

    def log_loss(log_temperature: float) -> float:
        return float(-log_softmax(logs / np.exp(log_temperature), axis=1)[rows, truth].mean())

    found = minimize_scalar(log_loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return float(np.exp(found.x))


def error_by_confidence(confidence: Probabilities, wrong: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Coverage [N] and error rate [N] (both 0..1) of the most confident predictions, the most confident first.

    Predictions of equal confidence are added together: each of their points is that of the last among them. The
    risk-coverage curve of El-Yaniv & Wiener, Journal of Machine Learning Research 11, 2010.

    >>> coverage, error = error_by_confidence(np.array([0.9, 0.5, 0.7]), np.array([False, True, True]))
    >>> error.round(3).tolist()
    [0.0, 0.5, 0.667]
    """
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.searchsorted(-ordered, -ordered, side="right") - 1
    count = np.arange(1, len(order) + 1)
    error = np.cumsum(wrong[order]) / count
    return count[last] / len(order), error[last]


def _logs(probabilities: Probabilities) -> Floats:
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
