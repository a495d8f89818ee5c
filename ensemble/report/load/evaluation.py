"""A submission beside the right answers, and all that is known of its images and heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

from ensemble.joint import class_names, decode
from ensemble.metrics.scores import JOINT

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeadOutput:
    """One head's probabilities [N, C] of the images: all views merged, and the plain view (or None)."""

    merged: npt.NDArray[np.float32]
    identity: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Number:
    """A number known of images, such as age in years, that the classes of tasks are cut from.

    Attributes:
        name: its column.
        cuts: by task cut from it, where the classes begin, without the first.
        measured: [N], NaN where unknown.
    """

    name: str
    cuts: Mapping[str, Sequence[float]]
    measured: npt.NDArray[np.float64]

    @property
    def borders(self) -> list[float]:
        """Where classes of any of the tasks begin, in order."""
        return sorted({border for borders in self.cuts.values() for border in borders})


@dataclass(frozen=True)
class Evaluation:
    """What a report is about.

    Attributes:
        tasks: class names of each task, the most significant digit of the joint code first.
        ids: the images' names, N of them.
        truth: right joint codes [N].
        submissions: joint codes [N] by the submission's name; the report's own comes first, others beside it.
        people: [N], who each image shows, or None where that is not known.
        numbers: what is known in numbers.
        heads: probabilities by task; none where there is no file of them.
        temperatures: by task, as fitted on validation people; none where there are no runs.
    """

    tasks: Mapping[str, Sequence[str]]
    ids: Sequence[str]
    truth: Codes
    submissions: Mapping[str, Codes]
    people: npt.NDArray[np.str_] | None = None
    numbers: Sequence[Number] = ()
    heads: Mapping[str, HeadOutput] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)

    @property
    def predicted(self) -> Codes:
        """The report's own submission [N]."""
        return next(iter(self.submissions.values()))

    @property
    def radices(self) -> list[int]:
        return [len(names) for names in self.tasks.values()]

    @property
    def joint_classes(self) -> list[str]:
        return class_names(self.tasks)

    @property
    def groups(self) -> Codes:
        """[N], 0..G-1: what the bootstrap draws as one, a person where people are known, else an image."""
        if self.people is None:
            return np.arange(len(self.ids))
        return np.unique(self.people, return_inverse=True)[1].astype(np.int64)

    def digits(self, codes: Codes) -> dict[str, Codes]:
        """Each task's class indices [N] behind joint codes [N]."""
        return dict(zip(self.tasks, decode(codes, self.radices), strict=True))

    def wrong(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Where [N] the joint answer is wrong, under "joint", and each task's."""
        truth, predicted = self.digits(self.truth), self.digits(self.predicted)
        tasks = {task: truth[task] != predicted[task] for task in self.tasks}
        return {JOINT: self.truth != self.predicted, **tasks}

    def answer_probabilities(self, codes: Codes) -> dict[str, npt.NDArray[np.float64]]:
        """What the heads give to `codes` [N]: each head to its class, and to all (their product) under "joint".

        Only where every task has a head's probabilities; else nothing.
        """
        if set(self.heads) != set(self.tasks):
            return {}
        rows = np.arange(len(self.ids))
        each = {t: self.heads[t].merged[rows, d].astype(np.float64) for t, d in self.digits(codes).items()}
        return {JOINT: np.prod(list(each.values()), axis=0), **each}

    def __post_init__(self) -> None:
        if JOINT in self.tasks:
            raise ValueError(f"a task is named {JOINT!r}, where the joint figures go: give it another name")
        if any(len(codes) != len(self.ids) for codes in (self.truth, *self.submissions.values())):
            raise ValueError(f"expected codes of {len(self.ids)} images")
        highest = max(int(codes.max()) for codes in (self.truth, *self.submissions.values()))
        if highest >= prod(self.radices):
            raise ValueError(f"joint code {highest} is out of range, expected 0..{prod(self.radices) - 1}")
