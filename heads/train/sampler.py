"""How often a class is drawn and how much it weighs: two ways to correct one imbalance, each with a power."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from data.dataset import SampleIndex
from data.runtime.errors import raise_all


def class_counts(indices: npt.NDArray[np.int64], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Rows of each class [C]; a class without any is the user's error, since no head can learn it."""
    counts = np.bincount(indices, minlength=len(classes))
    raise_all(
        "the training fold lacks a class",
        [f"{classes[int(i)]!r}: found 0 images, expected at least 1" for i in np.flatnonzero(counts == 0)],
    )
    return counts


@dataclass
class BalancedSampler(Sampler[SampleIndex]):
    """Rows of an epoch, balanced over classes; the same seed and epoch give the same list.

    A draw tells how often the epoch drew its row before: so an image of a rare class that comes twice is
    augmented in two ways.

    An epoch is as long as the rows that it may draw from: all, or `per_person` of each person's, chosen anew
    every epoch. With a power, each of them is drawn in proportion to n ** -power, n the rows of its class among
    them, by systematic resampling (Kitagawa 1996, doi:10.1080/10618600.1996.10474692): a row's and a class's
    count is the expected one rounded down or up, where independent draws would scatter.

    Attributes:
        labels: class index of each row, [N].
        persons: person of each row, [N].
        power: 0 draws each row once, 1 draws all classes equally often.
        per_person: at most this many different images of a person in an epoch; None for all.
        seed: from 0.
        epoch: which epoch the next pass is, from 0.
        skip: how many rows of that pass were drawn before, in a run that goes on in the middle of it.
    """

    labels: npt.NDArray[np.int64]
    persons: Sequence[str]
    power: float = 0.0
    per_person: int | None = None
    seed: int = 0
    epoch: int = 0
    skip: int = 0

    def __post_init__(self) -> None:
        self._person = np.unique(np.asarray(self.persons, dtype=str), return_inverse=True)[1]
        counts = np.bincount(self._person)
        self._length = int(np.minimum(counts, self.per_person or len(self.labels)).sum())

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[SampleIndex]:
        rows = self.rows(self.epoch)
        draws = zip(rows.tolist(), _rank_within(rows).tolist(), strict=True)
        return iter([(self.epoch, row, again) for row, again in draws][self.skip :])

    def rows(self, epoch: int) -> npt.NDArray[np.int64]:
        """The rows of one epoch in order, [len(self)]."""
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
    """How many earlier items of the same group each item has, [N].

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
