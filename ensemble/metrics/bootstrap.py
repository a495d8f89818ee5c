"""How sure a score is: intervals and differences by the bootstrap, whole people drawn again, not images.

Images of one person go wrong together; drawn one by one they would make an interval too narrow (the
cluster bootstrap, Field & Welsh, Journal of the Royal Statistical Society B 69, 2007). Every score here is a
function of a confusion matrix, so that only those are drawn again.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
DRAWS = 1000
CHUNK = 100
LEVEL = 0.95


def draw_weights(
    counts: npt.NDArray[np.integer], draws: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each kind of unit comes in each of `draws` resamples with replacement: [draws, kinds].

    `counts` [kinds] is how many units there are of each kind; a resample has as many units as there are in all.
    """
    kinds, total = len(counts), int(counts.sum())
    if kinds < total:
        return generator.multinomial(total, counts / total, size=draws)
    # One of each kind: counting draws is five times as fast as a multinomial of as many kinds.
    drawn = generator.integers(0, kinds, (draws, kinds)) + kinds * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * kinds).reshape(draws, kinds)


def resampled_confusions(
    truth: Codes,
    answers: Sequence[Codes],
    classes: int,
    groups: Codes,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> list[Floats]:
    """Confusion matrices [draws, classes, classes] of each of `answers`, all on the same resamples.

    Args:
        truth: class indices [N].
        answers: class indices [N] each, in the same order.
        classes: number of classes.
        groups: [N], the whole number 0..G-1 of what is drawn as one: a person, or an image.
        generator: where the resamples come from.
        draws: how many there are.
    """
    cells = np.stack([truth.astype(np.int64) * classes + each for each in answers])
    counts = np.ones(int(groups.max()) + 1, dtype=np.int64)
    if len(counts) == len(truth):  # one image each: those with the same answers are of one kind
        cells, counts = np.unique(cells, axis=1, return_counts=True)
        groups = np.arange(len(counts))
    results = [np.zeros((draws, classes * classes)) for _ in answers]
    found = [np.unique(each, return_inverse=True) for each in cells]  # of 324 cells only those that occur
    # Counts below 2 ** 24 are exact in single precision.
    tables = [np.zeros((len(counts), len(known)), dtype=np.float32) for known, _ in found]
    for table, (_, place) in zip(tables, found, strict=True):
        np.add.at(table, (groups, place), 1)
    for start in range(0, draws, CHUNK):
        weights = draw_weights(counts, min(CHUNK, draws - start), generator).astype(np.float32)
        for result, (known, _), table in zip(results, found, tables, strict=True):
            result[start : start + len(weights), known] = weights @ table
    return [result.reshape(draws, classes, classes) for result in results]


def accuracy(confusions: Floats) -> Floats:
    """Accuracy of confusion matrices [..., C, C]."""
    right = np.trace(confusions, axis1=-2, axis2=-1)
    return np.asarray(right / np.maximum(confusions.sum(axis=(-2, -1)), 1))


def task_confusions(confusions: Floats, radices: Sequence[int], position: int) -> Floats:
    """One task's confusion matrices [..., C, C] out of those of the joint code with these `radices`.

    >>> task_confusions(np.arange(16.0).reshape(4, 4), (2, 2), 0).tolist()
    [[10.0, 18.0], [42.0, 50.0]]
    """
    ahead, tasks = confusions.ndim - 2, len(radices)
    unfolded = confusions.reshape(*confusions.shape[:-2], *radices, *radices)
    kept = (ahead + position, ahead + tasks + position)
    others = tuple(axis for axis in range(ahead, ahead + 2 * tasks) if axis not in kept)
    return np.asarray(unfolded.sum(axis=others))


def interval(values: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of resampled `values` [draws] that holds `level` of them.

    >>> interval(np.arange(101.0), 0.5)
    (25.0, 75.0)
    """
    outside = 100 * (1 - level) / 2
    low, high = np.percentile(values, [outside, 100 - outside])
    return float(low), float(high)
