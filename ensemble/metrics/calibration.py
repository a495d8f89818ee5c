"""Is a head as right as it is sure? Reliability, temperature scaling, and error against confidence."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer]
Probabilities = npt.NDArray[np.floating]
BINS = 15
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class Reliability:
    """Bins of confidence that hold anything: mean confidence, accuracy (both 0..1) and count of each."""

    confidence: list[float]
    accuracy: list[float]
    count: list[int]


def reliability(probabilities: Probabilities, truth: Codes, bins: int = BINS) -> Reliability:
    """Accuracy by confidence of `probabilities` [N, C] against class indices `truth` [N].

    The bins are those of `ensemble.metrics.scores.expected_calibration_error`, which is their gap weighted by count.

    >>> reliability(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])).accuracy
    [0.5]
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    held = count > 0
    mean = [
        np.bincount(place, weights=each, minlength=bins)[held] / count[held] for each in (confidence, right)
    ]
    return Reliability(mean[0].tolist(), mean[1].tolist(), count[held].tolist())


def scale(probabilities: Probabilities, temperature: float) -> npt.NDArray[np.float64]:
    """Probabilities [N, C] with their logarithms divided by `temperature`; above 1 they are less sure.

    For the softmax of logits it is the softmax of logits / temperature.

    >>> scale(np.array([[0.8, 0.2]]), 1.0).round(6).tolist()
    [[0.8, 0.2]]
    """
    logs = _logs(probabilities) / temperature
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: Probabilities, truth: Codes) -> float:
    """The temperature, 0.05 to 20, at which `truth` [N] is likeliest under scaled `probabilities` [N, C].

    Guo et al., ICML 2017 (arXiv:1706.04599). To be fitted on people that neither trained the head nor are
    scored. The likelihood is convex in 1 / temperature, so that bisection on its slope finds the minimum.
    """
    logs = _logs(probabilities)
    of_truth = logs[np.arange(len(logs)), truth].mean()
    low, high = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(50):
        middle = (low + high) / 2
        expected = (scale(probabilities, float(np.exp(middle))) * logs).sum(axis=1).mean()
        # Where the head expects more of its answers than they are worth, it is too cold.
        low, high = (middle, high) if expected > of_truth else (low, middle)
    return float(np.exp((low + high) / 2))


def error_by_confidence(
    confidence: Probabilities, wrong: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(share kept [N], error among those kept [N]) if only the surest answers count, the surest first.

    Equally sure answers are kept together: each of their points is that of the last among them. The
    risk-coverage curve of El-Yaniv & Wiener, Journal of Machine Learning Research 11, 2010.

    >>> kept, error = error_by_confidence(np.array([0.9, 0.5, 0.7]), np.array([False, True, True]))
    >>> error.round(3).tolist()
    [0.0, 0.5, 0.667]
    """
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.searchsorted(-ordered, -ordered, side="right") - 1
    kept = np.arange(1, len(order) + 1)
    error = np.cumsum(wrong[order]) / kept
    return kept[last] / len(order), error[last]


def _logs(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
