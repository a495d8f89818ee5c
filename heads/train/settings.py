"""How long a head is trained, how carefully, and which of its epochs is the best."""

from dataclasses import dataclass

import numpy as np

Record = dict[str, float]  # an epoch's figures, by name


@dataclass(frozen=True)
class FitSettings:
    """How long, how careful, after which epochs to validate, and by which figure the best of them is chosen."""

    epochs: int
    select_by: str = "macro_f1"
    validate_every: int = 1
    patience: int | None = None
    clip_norm: float | None = None
    seed: int = 0

    def validates(self, epoch: int) -> bool:
        """Whether the head is validated after `epoch` (from 0): counted back from the last, which always is."""
        return (self.epochs - 1 - epoch) % self.validate_every == 0

    def score(self, record: Record) -> float:
        """The figure to be raised; an error counts downwards, an epoch without validation least of all."""
        if self.select_by not in record:
            return -np.inf
        return -record["mae"] if self.select_by == "mae" else record[self.select_by]

    def best(self, history: list[Record]) -> int:
        """Index of the best epoch so far, the earliest among equals."""
        return int(np.argmax([self.score(record) for record in history]))

    def is_out_of_patience(self, history: list[Record]) -> bool:
        """Whether the last epoch was validated and the best lies `patience` epochs or more behind it."""
        if self.patience is None or not history or not self.validates(len(history) - 1):
            return False
        return len(history) - 1 - self.best(history) >= self.patience
