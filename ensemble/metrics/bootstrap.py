"""Bootstrap intervals of scores, with people as the resampling unit.

Images of one person tend to be wrong together, so that resampling single images gives intervals that are too
narrow (cluster bootstrap: Field & Welsh, Journal of the Royal Statistical Society B 69, 2007). All scores are
functions of a confusion matrix, so only confusion matrices are resampled.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
DRAWS = 1000
CHUNK = 100


def draw_weights(counts: Codes, draws: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Number of times [draws, kinds] that each kind of unit is drawn in resamples with replacement.

    `counts` [kinds] is the number of units of each kind; a resample has as many units as there are in total.
    """
    kinds, total = len(counts), int(counts.sum())
    if kinds < total:
        return generator.multinomial(total, counts / total, size=draws)
    # One unit of each kind: counting drawn indices is five times as fast as such a long multinomial.
    drawn = generator.integers(0, kinds, (draws, kinds)) + kinds * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * kinds).reshape(draws, kinds)


def resampled_confusions(
    truth: Codes,
    predictions: Sequence[Codes],
    classes: int,
    groups: Codes,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> Floats:
    """Confusion matrices [len(predictions), draws, classes, classes], all predictions on the same resamples.

    Args:
        truth: class indices [N].
        predictions: class indices [N] each.
        classes: number of classes.
        groups: resampling unit of each sample, [N] in 0..G-1: a person, or the image itself.
        generator: source of the randomness.
        draws: number of resamples.
    """
    cells = np.stack([truth.astype(np.int64) * classes + each for each in predictions])
    counts = np.ones(int(groups.max()) + 1, dtype=np.int64)
    if len(counts) == len(truth):  # a group for each image: images in the same cells are interchangeable
        cells, counts = np.unique(cells, axis=1, return_counts=True)
        groups = np.arange(len(counts))
    tables = []  # for each prediction the cells that occur, and their counts in each group
    for each in cells:
        known, place = np.unique(each, return_inverse=True)
        table = np.zeros((len(counts), len(known)), dtype=np.float32)  # counts below 2 ** 24 are exact
        np.add.at(table, (groups, place), 1)
        tables.append((known, table))
    result = np.zeros((len(tables), draws, classes * classes))
    for start in range(0, draws, CHUNK):
        weights = draw_weights(counts, min(CHUNK, draws - start), generator).astype(np.float32)
        for confusions, (known, table) in zip(result, tables, strict=True):
            confusions[start : start + len(weights), known] = weights @ table
    return result.reshape(len(tables), draws, classes, classes)


def task_confusions(confusions: Floats, radices: Sequence[int], position: int) -> Floats:
    """Confusion matrices [..., C, C] of the task at `position` of the joint code, from those of the joint code.

    >>> task_confusions(np.arange(16.0).reshape(4, 4), (2, 2), 0).tolist()
    [[10.0, 18.0], [42.0, 50.0]]
    """
    leading, tasks = confusions.ndim - 2, len(radices)
    unfolded = confusions.reshape(*confusions.shape[:-2], *radices, *radices)
    others = {leading + axis for axis in range(2 * tasks)} - {leading + position, leading + tasks + position}
    return np.asarray(unfolded.sum(axis=tuple(others)))


def interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled `values` [draws] that contains `level` of them.

    >>> interval(np.arange(101.0), 0.5)
    (25.0, 75.0)
    """
    outside = 100 * (1 - level) / 2
    low, high = np.percentile(values, [outside, 100 - outside])
    return float(low), float(high)
