"""A label column to training targets, and a head's logits back to class probabilities.

A head has one output per class; or one per whole number low..high, whose probabilities are summed within the
classes and whose mean predicts the number (Rothe et al. 2018, doi:10.1007/s11263-016-0940-3; Gaussian labels:
Gao et al. 2017, arXiv:1611.01731); or one per border between ordered classes (`heads.objective.ordinal`).

A training target, made by `encode` and `join_teacher` and read by the losses, is of one of these shapes:

| targets | of a head with | an image without a label or teacher has |
| --- | --- | --- |
| class indices, int64 [N] | one output per class or border | no row |
| distributions [N, outputs] | one output per number, or classes and mixed images | no row |
| both side by side, float [N, outputs + K] | a teacher of K classes, numbers or embeddings | zeros in that part |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from data.runtime.errors import InputError, raise_all
from heads.objective.ordinal import PROBABILITIES

if TYPE_CHECKING:
    import pandas as pd  # functions import it late: predictions need no tables


@dataclass(frozen=True)
class Target:
    """What one head predicts; `heads.config.task.Label` refuses contradictions between the fields."""

    column: str
    classes: tuple[str, ...]  # without borders they are the column's values
    borders: tuple[float, ...] | None = None  # class i holds borders[i-1] <= number < borders[i]
    numbers: tuple[int, int] | None = None  # low and high of the outputs; larger numbers count as high
    sigma: float = 1.0  # standard deviation of the Gaussian label over `numbers`
    ordinal: str | None = None  # coral or corn: one output per border between ordered classes
    parts: tuple["Target", ...] = ()  # the classes are combinations of theirs, the first most significant

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return len(self.classes) - (self.ordinal is not None) if self.numbers is None else len(self.pool)

    @property
    def pool(self) -> Tensor:
        """Class index of each number, or of each class where there are no numbers, int64."""
        if self.numbers is None:
            return torch.arange(len(self.classes))
        return torch.from_numpy(self._cut(np.arange(self.numbers[0], self.numbers[1] + 1.0)))

    @property
    def names(self) -> list[str]:
        """Names of the outputs' meanings: the numbers, or the classes where there are none."""
        return (
            list(self.classes) if self.numbers is None else list(map(str, range(self.numbers[0], self.numbers[1] + 1)))
        )

    def select_rows(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """The rows of `table` that have this label, renumbered from 0.

        Raises:
            InputError: no row has it.
        """
        for part in self.parts:
            table = part.select_rows(table)
        if self.parts:
            return table
        if self.column in table:
            rows = table[table[self.column].notna()].reset_index(drop=True)
            if len(rows):
                return rows
        known = ", ".join(str(column) for column in table if table[column].notna().any())
        raise InputError(f"no row has a label in column {self.column!r}; found the columns {known}")

    def class_indices(self, table: "pd.DataFrame") -> npt.NDArray[np.int64]:
        """Class index [N] of each labelled row.

        Raises:
            InputError: all labels that fit no class, at once.
        """
        if self.parts:
            digits = tuple(part.class_indices(table) for part in self.parts)
            return np.asarray(np.ravel_multi_index(digits, [len(part.classes) for part in self.parts]))
        column = table[self.column]
        if self.borders is None:
            index = {name: i for i, name in enumerate(self.classes)}
            fits, expected = column.isin(list(index)), f"one of {', '.join(index)}"
        else:
            import pandas as pd

            column = pd.to_numeric(column, errors="coerce")
            low = -np.inf if self.numbers is None else self.numbers[0]
            fits, expected = column.between(low, np.inf, inclusive="left"), f"a number from {low} up"
        wrong = table[~fits]
        raise_all(
            f"{len(wrong)} labels in column {self.column!r} fit no class",
            [
                f"{path}: found {value!r}, expected {expected}"
                for path, value in zip(wrong.path, wrong[self.column], strict=True)
            ],
        )
        if self.borders is None:
            return np.array(column.map(index), dtype=np.int64)
        return self._cut(column.to_numpy(dtype=np.float64))

    def encode(self, table: "pd.DataFrame") -> Tensor:
        """Training targets of labelled rows: class indices [N], or distributions [N, outputs]."""
        indices = self.class_indices(table)
        if self.numbers is None:
            return torch.from_numpy(indices)
        low, high = self.numbers
        distances = torch.arange(low, high + 1, dtype=torch.float64) - self.values(table).clamp(max=high)[:, None]
        # A normal density; the softmax normalises it also where the range truncates it.
        return (-(distances**2) / (2 * self.sigma**2)).softmax(dim=1).float()

    def values(self, table: "pd.DataFrame") -> Tensor:
        """The column as numbers, float64 [N]; only for a target with numbers."""
        import pandas as pd

        return torch.from_numpy(pd.to_numeric(table[self.column]).to_numpy(dtype=np.float64, copy=True))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities [N, C] (rows sum to 1) from logits [N, outputs]."""
        if self.ordinal is not None:
            return PROBABILITIES[self.ordinal](logits.float())
        outputs = logits.float().softmax(dim=1)
        if self.numbers is None:
            return outputs
        sums = outputs.new_zeros(outputs.shape[0], len(self.classes))
        return sums.index_add(1, self.pool.to(outputs.device), outputs)

    def expectation(self, logits: Tensor) -> Tensor:
        """Mean of the predicted distribution [N], in the label's unit; only for a target with numbers."""
        assert self.numbers is not None
        numbers = torch.arange(self.numbers[0], self.numbers[1] + 1, device=logits.device)
        return logits.float().softmax(dim=1) @ numbers.float()

    def distribution(self, logits: Tensor, names: Sequence[str]) -> Tensor:
        """Probabilities [N, len(names)] of `self.names`, or of these classes in any order, from logits [N, outputs]."""
        if self.numbers is not None and list(names) == self.names:
            return logits.float().softmax(dim=1)
        return self.probabilities(logits)[:, [self.classes.index(name) for name in names]]

    def join_teacher(self, targets: Tensor, teacher: Tensor) -> Tensor:
        """Join training targets and a teacher's probabilities [N, K] into distributions [N, outputs + K].

        Rows without a label (the index -1, or zeros) or without a teacher (NaN) get zeros there.
        """
        if targets.ndim == 1:
            targets = F.one_hot(targets.clamp_min(0), self.outputs) * (targets >= 0)[:, None]
        return torch.cat([targets.float(), teacher.nan_to_num(0)], dim=1)

    def _cut(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        return np.searchsorted(np.asarray(self.borders), values, side="right").astype(np.int64)
