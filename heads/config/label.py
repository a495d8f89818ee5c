"""The YAML's section `label`: which column a head predicts, and what its classes are."""

from itertools import product
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from heads.config.loader import Positive, Section


class Distribution(Section):
    """Train on a Gaussian over whole numbers low..high around the label; high means "and over"."""

    low: int
    high: int
    sigma: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self


class TrainingLabel(Section):
    """What training does otherwise than scoring, for labels that are unsure near a border.

    `borders` cut the training rows in place of the label's own; rows whose number lies in one of the
    `leave_out` ranges, both ends included, are not trained on.
    """

    borders: list[float] | None = None
    leave_out: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(default_factory=list)


class LabelPart(Section):
    """One label of a joint one: a column and its classes, cut from numbers by `borders` where it has some."""

    column: str
    classes: Annotated[list[str], Field(min_length=2)]
    borders: list[float] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_classes(self.classes, [self.borders])
        return self


def _check_classes(classes: list[str], several_borders: list[list[float] | None]) -> None:
    if len(set(classes)) != len(classes):
        raise ValueError(f"classes {classes} name one class twice")
    for borders in several_borders:
        if borders is not None and len(borders) != len(classes) - 1:
            raise ValueError(f"{len(classes)} classes need {len(classes) - 1} borders")
        if borders is not None and sorted(set(borders)) != borders:
            raise ValueError(f"borders {borders} must rise")


class Label(Section):
    """Which column is the label and what its classes are.

    Without `borders` the classes are the column's own values; with them the column is a number, and class i
    holds borders[i-1] <= number < borders[i]. `ordinal` asks ordered classes as "above this border?". `parts`
    make a joint label instead: its classes are the combinations of theirs, the first part on top, and neither
    column nor classes are given.
    """

    column: str | None = None
    classes: list[str] = Field(default_factory=list)
    parts: list[LabelPart] = Field(default_factory=list)
    borders: list[float] | None = None
    distribution: Distribution | None = None
    ordinal: Literal["none", "coral", "corn"] = "none"
    training: TrainingLabel = TrainingLabel()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.parts:
            return self._joined()
        if self.column is None or len(self.classes) < 2:
            raise ValueError("give column and at least two classes, or parts")
        _check_classes(self.classes, [self.borders, self.training.borders])
        if self.borders is None and (self.training.borders or self.training.leave_out):
            raise ValueError("label.training speaks of numbers: give borders that cut them into classes")
        if self.distribution is not None and self.ordinal != "none":
            raise ValueError("give either a distribution or ordinal, not both")
        if self.distribution is not None:
            if self.borders is None:
                raise ValueError("a distribution is over a number: give borders that cut it into classes")
            if not all(self.distribution.low < b <= self.distribution.high for b in self.borders):
                raise ValueError(f"borders {self.borders} must lie within the distribution's low..high")
        return self

    def _joined(self) -> Self:
        """A label of parts, its classes named."""
        names = [" / ".join(combined) for combined in product(*(part.classes for part in self.parts))]
        alone = (self.column, self.borders, self.distribution) == (None, None, None) and self.ordinal == "none"
        if len(self.parts) < 2 or not alone or self.training != TrainingLabel():
            raise ValueError("a label of parts has at least two of them and nothing beside them")
        if self.classes not in ([], names):
            raise ValueError("the classes of a label of parts are the combinations of theirs; leave them out")
        self.classes[:] = names
        return self
