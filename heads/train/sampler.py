"""Sampler of training rows: balanced over classes, with a limit of images per person."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from data.dataset import SampleIndex


@dataclass
class BalancedSampler(Sampler[SampleIndex]):
    """Sample rows of an epoch, balanced over classes; the same seed and epoch give the same list.

    An index includes how often the epoch drew its row before, so that an image of a rare class that is drawn
    twice is augmented in two ways.

    An epoch is as long as the rows that it may draw from: all, or `per_person` of each person's, chosen anew
    every epoch. With a power, each of them is drawn in proportion to n ** -power, n the rows of its class among
    them, by systematic resampling (Kitagawa 1996, doi:10.1080/10618600.1996.10474692): counts of rows and classes
    are the expected ones rounded down or up, where independent draws would scatter.

    Attributes:
        labels: class index of each row, [N].
        persons: person of each row, by name or number, [N].
        power: 0 draws each row once, 1 draws all classes equally often.
        per_person: at most this many different images of a person in an epoch; None: all.
        seed: from 0.
        epoch: the next epoch, from 0.
        skip: number of its rows that were drawn before, for a run that resumes in the middle of an epoch.
    """

    labels: npt.NDArray[np.int64]
    persons: npt.ArrayLike
    power: float = 0.0
    per_person: int | None = None
    seed: int = 0
    epoch: int = 0
    skip: int = 0

    def __post_init__(self) -> None:
        self._person = np.unique(np.asarray(self.persons), return_inverse=True)[1]
        counts = np.bincount(self._person)
        self._length = int(np.minimum(counts, self.per_person or len(self.labels)).sum())

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[SampleIndex]:
        rows = self.rows(self.epoch)
        indices = zip(rows.tolist(), _rank_within(rows).tolist(), strict=True)
        return iter([(self.epoch, row, repeat) for row, repeat in indices][self.skip :])

    def rows(self, epoch: int) -> npt.NDArray[np.int64]:
        """Rows of one epoch in order, [len(self)]."""
        rng = np.random.default_rng([self.seed, epoch])
        rows = rng.permutation(len(self.labels))
        if self.per_person is not None:
            rows = rows[_rank_within(self._person[rows]) < self.per_person]
        if self.power:
            # Class by class, so that a class's rows together are also drawn as often as expected.
            rows = rows[np.argsort(self.labels[rows], kind="stable")]
            labels = self.labels[rows]
            weights = 1.0 / np.bincount(labels)[labels] ** self.power
            expected = np.cumsum(weights / weights.sum() * len(rows))
            # The last cumulative sum may fall short of len(rows) by rounding; no row lies beyond it.
            picks = np.searchsorted(expected, np.arange(len(rows)) + rng.random(), side="right")
            rows = rng.permutation(rows[np.minimum(picks, len(rows) - 1)])
        return rows


def _rank_within(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count the earlier items of the same group for each item, [N].

    >>> _rank_within(np.array([4, 7, 4, 4, 7])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1]
    lengths = np.diff(np.r_[starts, len(groups)])
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, lengths)
    return ranks
