"""Submissions, ground truth and everything else that a report is computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from ensemble.files.predictions import TaskOutput
from ensemble.joint import class_names, decode
from ensemble.metrics.scores import JOINT

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NumericLabel:
    """A column of numbers, such as age in years, that the classes of one or more tasks are cut from.

    `task_borders` has the lower borders of each task's classes but the first; `value` is [N], NaN where unknown.
    """

    name: str
    task_borders: Mapping[str, Sequence[float]]
    value: npt.NDArray[np.float64]

    @property
    def borders(self) -> list[float]:
        """Borders of all tasks, ascending."""
        return sorted({border for borders in self.task_borders.values() for border in borders})


@dataclass(frozen=True)
class Evaluation:
    """Data of a report on N images.

    Attributes:
        tasks: class names of each task, the most significant digit of the joint code first.
        ids: names of the images.
        truth: true joint codes [N].
        submissions: joint codes [N] by the submission's name; the first one is reported on, the others are
            compared with it.
        people: person on each image [N], or None if unknown.
        numbers: known numeric labels.
        outputs: probabilities by task; empty if unknown.
        output_temperatures: by task, that combine.py has scaled `outputs` by; empty for raw probabilities.
        temperatures: by task, fitted on the runs' validation sets; empty without runs.
    """

    tasks: Mapping[str, Sequence[str]]
    ids: Sequence[str]
    truth: Codes
    submissions: Mapping[str, Codes]
    people: npt.NDArray[np.str_] | None = None
    numbers: Sequence[NumericLabel] = ()
    outputs: Mapping[str, TaskOutput] = field(default_factory=dict)
    output_temperatures: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)

    @property
    def predicted(self) -> Codes:
        """Joint codes [N] of the submission that is reported on."""
        return next(iter(self.submissions.values()))

    @property
    def radices(self) -> list[int]:
        return [len(names) for names in self.tasks.values()]

    @cached_property
    def joint_classes(self) -> list[str]:
        return class_names(self.tasks)

    @property
    def groups(self) -> Codes:
        """Resampling unit of each image, [N] in 0..G-1: its person, or the image itself if people are unknown."""
        if self.people is None:
            return np.arange(len(self.ids))
        return np.unique(self.people, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def true_classes(self) -> dict[str, Codes]:
        """True class indices [N] of each task."""
        return dict(zip(self.tasks, decode(self.truth, self.radices), strict=True))

    @cached_property
    def predicted_classes(self) -> dict[str, Codes]:
        """Predicted class indices [N] of each task."""
        return dict(zip(self.tasks, decode(self.predicted, self.radices), strict=True))

    @cached_property
    def factors(self) -> pd.DataFrame:
        """What images are grouped by, a row each: true class of each task, and each numeric label in bands of ten.

        Bands are cut at the label's borders too, and named as "20 to 30"; NaN where the number is unknown.
        """
        table = pd.DataFrame()
        for task, found in self.true_classes.items():
            table[task] = pd.Categorical(np.array(self.tasks[task])[found], categories=list(self.tasks[task]))
        for number in self.numbers:
            tens = np.unique(number.value[~np.isnan(number.value)] // 10)  # not all between: a value may be far away
            edges = np.union1d([*tens * 10, *(tens + 1) * 10], number.borders).tolist()
            names = [f"{low:.15g} to {high:.15g}" for low, high in pairwise(edges)]
            table[f"{number.name} by tens"] = pd.cut(pd.Series(number.value), edges, right=False, labels=names)
        return table

    @cached_property
    def wrong(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Where [N] the prediction is wrong, of the joint code under "joint" and of each task."""
        tasks = {task: self.true_classes[task] != self.predicted_classes[task] for task in self.tasks}
        return {JOINT: self.truth != self.predicted, **tasks}

    @cached_property
    def confidence(self) -> npt.NDArray[np.float64] | None:
        """Probability [N] of the predicted joint code: the product over tasks; None if a task's is unknown."""
        if set(self.outputs) != set(self.tasks):
            return None
        rows = np.arange(len(self.ids))
        chosen = {task: self.outputs[task].probabilities[rows, c] for task, c in self.predicted_classes.items()}
        return np.asarray(np.prod([each.astype(np.float64) for each in chosen.values()], axis=0))
