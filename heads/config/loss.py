"""The schema of a head's loss: losses of the labels, their class weights, and a teacher to learn from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from heads.config.loader import Positive, Section

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelow1 = Annotated[float, Field(ge=0, lt=1)]
TEACHING = ("distillation", "embedding")  # what a teacher is for
UNWEIGHTED = ("soft_f1", "expectation", *TEACHING)  # losses without class weights


class LossTerm(Section):
    """One loss and its factor in the sum.

    Only focal uses gamma, only focal and cross entropy smoothing, only distillation a temperature.
    """

    name: Literal["focal", "cross_entropy", "soft_f1", "expectation", "coral", "corn", "distillation", "embedding"]
    factor: NotNegative = 1.0
    gamma: NotNegative = 2.0
    label_smoothing: ShareBelow1 = 0.0
    temperature: Positive = 1.0


class Balanced(Section):
    """Class weights (N / (C * n_c)) ** balanced of the training fold's counts."""

    balanced: Share


class Loss(Section):
    """The weighted sum of one or two losses of the labels and one of a teacher, with class weights of the former."""

    terms: Annotated[list[LossTerm], Field(min_length=1, max_length=3)]
    class_weights: Literal["none"] | list[Positive] | Balanced = "none"

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [term.name for term in self.terms]
        if not len(names) - 1 <= len(self.label_terms) <= 2 or not self.label_terms:
            teaching = " or ".join(TEACHING)
            raise ValueError(
                f"loss.terms {names}: expected one loss of the labels, or two, and {teaching} once at most"
            )
        if not any(term.factor for term in self.terms):
            raise ValueError("loss.terms: all factors are 0, expected one above")
        return self

    @property
    def label_terms(self) -> list[LossTerm]:
        """The losses of the labels."""
        return [term for term in self.terms if term.name not in TEACHING]

    @property
    def teaching(self) -> LossTerm | None:
        """The term of the teacher, unless its factor is 0."""
        return next((term for term in self.terms if term.name in TEACHING and term.factor), None)


class LookAt(Section):
    """Another image of the person for the teacher: those whose label in `column` is `value`."""

    column: str
    value: str


class Teacher(Section):
    """What a distillation learns from: runs, or a file of probabilities per image; an embedding: a file of these."""

    runs: list[str] = Field(default_factory=list)
    file: str | None = None
    allow_training_people: bool = False
    look_at: LookAt | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.runs) == (self.file is not None):
            raise ValueError("teacher: give either runs or file")
        if self.file is not None and self.allow_training_people:
            raise ValueError("teacher.allow_training_people: only runs know whom they were trained on; leave it out")
        return self
