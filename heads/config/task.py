"""The schema of one head's YAML: every key with its default, and the values that are refused (docs/yaml.md)."""

from itertools import product
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from heads.config.loader import Positive, Section, dump_yaml, is_stored
from heads.config.loss import TEACHING, UNWEIGHTED, Balanced, Loss, LossTerm, NotNegative, Share, ShareBelow1, Teacher

PositiveShare = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and scikit-learn both take
THREE = Field(min_length=3, max_length=3)
TorchvisionName = Literal["resnet18", "resnet34", "resnet50"]
KerasName = Literal["resnet50_keras", "resnet50_keras_2_0", "resnet50_keras_2_1", "resnet50_keras_2_2"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]
Step = str | dict[str, dict[str, Any] | None]
RETIRED = {
    "label.training": "other borders for training gained nothing (docs/ablations.md); leave it out",
    "training.resizing": "small images first gained nothing (docs/ablations.md); leave it out",
    "training.mix.alpha": "only mixup and cutmix used it; leave it out",
    "training.mix.method=mixup": "mixup gained nothing (docs/ablations.md); use halves or no training.mix",
    "training.mix.method=cutmix": "cutmix gained nothing (docs/ablations.md); use halves or no training.mix",
}


class Distribution(Section):
    """A Gaussian label over the whole numbers low..high; larger numbers count as high."""

    low: int
    high: int
    sigma: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self


class LabelPart(Section):
    """One label of a joint label: a column and its classes, cut from numbers where it has `borders`."""

    column: str
    classes: Annotated[list[str], Field(min_length=2)]
    borders: list[float] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_classes(self.classes, self.borders)
        return self


class Label(Section):
    """The label column and its classes.

    Without `borders` the classes are the column's values; with them class i holds borders[i-1] <= number <
    borders[i]. The classes of a joint label are the combinations of its `parts`', the first most significant.
    """

    column: str | None = None
    classes: list[str] = Field(default_factory=list)
    parts: list[LabelPart] = Field(default_factory=list)
    borders: list[float] | None = None
    distribution: Distribution | None = None
    ordinal: Literal["none", "coral", "corn"] = "none"

    @model_validator(mode="after")
    def _check(self) -> Self:
        d = self.distribution
        if self.parts:
            names = [" / ".join(classes) for classes in product(*(part.classes for part in self.parts))]
            others = (self.column, self.borders, d, self.ordinal) != (None, None, None, "none")
            if len(self.parts) < 2 or others:
                raise ValueError("a label of parts has at least two parts and no other key")
            if self.classes not in ([], names):
                raise ValueError("classes of a label of parts are the combinations of theirs; leave them out")
            self.classes[:] = names
            return self
        if self.column is None or len(self.classes) < 2:
            raise ValueError("give column and at least two classes, or parts")
        _check_classes(self.classes, self.borders)
        if d is not None and self.ordinal != "none":
            raise ValueError("give either a distribution or ordinal, not both")
        if d is not None and self.borders is None:
            raise ValueError("a distribution is over numbers: give borders that cut them into classes")
        if d is not None and not all(d.low < border <= d.high for border in self.borders or []):
            raise ValueError(f"borders {self.borders} must lie within the distribution's low..high")
        return self


def _check_classes(classes: list[str], borders: list[float] | None) -> None:
    if len(set(classes)) != len(classes):
        raise ValueError(f"classes {classes} name one class twice")
    if borders is not None and len(borders) != len(classes) - 1:
        raise ValueError(f"{len(classes)} classes need {len(classes) - 1} borders")
    if borders is not None and sorted(set(borders)) != borders:
        raise ValueError(f"borders {borders} must rise")


class Split(Section):
    """Person-disjoint folds; heads that are merged must share this section, or their validation sets leak."""

    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    seed: Seed = 0
    strata: dict[str, list[float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: expected 0 to {self.folds - 1}")
        return self


class Backbone(Section):
    """The backbone; `weights` is imagenet (a download), random, run:NAME (the best of that run) or a file."""

    name: Literal[TorchvisionName, KerasName] = "resnet18"
    weights: str = "imagenet"
    with_classifier: bool = False
    freeze: Literal["none", "stem", "layer1", "layer2", "layer3", "layer4", "all"] = "none"


class Classifier(Section):
    """Layers on the backbone; `factored`, for a label of parts: joint logits are sums of the parts' logits."""

    factored: bool = False
    hidden: list[Count] = Field(default_factory=list)
    dropout: ShareBelow1 = 0.0


class Sampler(Section):
    """Rows of a class of n drawn n ** -power as often (0 off, 1 uniform); at most per_person of a person."""

    power: Share = 0.0
    per_person: Count | None = None


class Pixels(Section):
    """Steps for training and for evaluation, and the normalisation that is part of the head."""

    mean: Annotated[list[Share], THREE] = Field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: Annotated[list[Positive], THREE] = Field(default_factory=lambda: [0.229, 0.224, 0.225])
    train: Annotated[list[Step], Field(min_length=1)]
    evaluate: Annotated[list[Step], Field(min_length=1)]

    @field_validator("train", "evaluate")
    @classmethod
    def _check_steps(cls, steps: list[Step]) -> list[Step]:
        from data.transforms.pipeline import has_one_size  # late: for --help, OpenCV is not imported

        if not has_one_size(steps):
            raise ValueError("images of different sizes stay so; add resize, letterbox or a crop")
        return steps

    @field_validator("evaluate")
    @classmethod
    def _check_fixed(cls, steps: list[Step], info: ValidationInfo) -> list[Step]:
        from data.transforms.pipeline import random_steps  # late, as above

        random = [] if is_stored(info) else random_steps(steps)
        if random:
            raise ValueError(
                f"{', '.join(random)}: random, but validation and inference are never augmented; leave it out, "
                "or use views for test-time augmentation"
            )
        return steps


class Optimiser(Section):
    """lr is the classifier's; lr * trunk_lr the last stage's; a stage has stage_lr of the next one's.

    coral_lr is that of CORAL's biases.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 1e-3
    trunk_lr: Share = 1.0
    stage_lr: PositiveShare = 1.0
    coral_lr: Positive = 0.05
    weight_decay: NotNegative = 0.01
    momentum: ShareBelow1 = 0.9


class Schedule(Section):
    """Learning rate over the run; `warmup` is a share of all steps (one_cycle: its rising part)."""

    name: Literal["one_cycle", "cosine", "step"] = "one_cycle"
    warmup: ShareBelow1 = 0.3
    step_epochs: Count = 1
    step_factor: PositiveShare = 0.1


class Mix(Section):
    """A share p of each batch's images joined from the halves of two.

    With `rarest` the second one is of the rarest class of the training set (of equals the first in label.classes),
    or of the class that it names.
    """

    method: Literal["halves"] = "halves"
    p: Share = 0.5
    rarest: bool | str = False


FREE_KEYS = ("workers", "trackers")  # of `Training`: they do not affect a run's result


class Training(Section):
    """Training; `feature_views`: views per image whose features are cached and the classifier is trained on."""

    epochs: Count
    batch_size: Count = 32
    clip_norm: Positive | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    select_by: Literal["macro_f1", "mae"] = "macro_f1"
    validate_every: Count = 1
    patience: Count | None = None
    ema: ShareBelow1 = 0.0
    mix: Mix | None = None
    feature_views: Count | None = None
    trackers: list[Tracker] = Field(default_factory=lambda: list[Tracker](["tensorboard"]))
    seed: Seed = 0
    workers: Annotated[int, Field(ge=0)] | None = None


class Views(Section):
    """Test-time views beside identity, which is always one of them; each a name or {name: arguments}.

    `steps` are used by default, `further` ones where all views are asked for.
    """

    steps: list[Step] = Field(default_factory=list)
    further: list[Step] = Field(default_factory=list)
    merge: Literal["mean", "geometric", "vote"] = "mean"

    @field_validator("steps", "further")
    @classmethod
    def _check_steps(cls, steps: list[Step], info: ValidationInfo) -> list[Step]:
        from data.transforms.views import make_views  # late: torch takes seconds to import

        make_views([*info.data.get("steps", []), *steps])
        return steps


class TaskConfig(Section):
    """One head's YAML."""

    retired: ClassVar = RETIRED

    task: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    corrections: str | None = None
    label: Label
    split: Split = Split()
    backbone: Backbone = Backbone()
    classifier: Classifier = Classifier()
    loss: Loss
    teacher: Teacher | None = None
    sampler: Sampler = Sampler()
    pixels: Pixels
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    training: Training
    views: Views = Views()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.training.select_by == "mae" and self.label.distribution is None:
            raise ValueError("training.select_by=mae needs label.distribution")
        if self.classifier.factored and not self.label.parts:
            raise ValueError("classifier.factored needs label.parts")
        if self.backbone.with_classifier and self.backbone.weights in ("imagenet", "random"):
            raise ValueError("backbone.with_classifier needs backbone.weights=run:NAME or a file of a head")
        ordinal, names = self.label.ordinal, [term.name for term in self.loss.terms]
        if (ordinal != "none" and names != [ordinal]) or (ordinal == "none" and {"coral", "corn"} & set(names)):
            raise ValueError(f"label.ordinal={ordinal} with loss.terms {names}: use the same one, alone, in both keys")
        if "expectation" in names and self.label.distribution is None:
            raise ValueError("loss.terms: expectation is over numbers: it needs label.distribution")
        if ordinal != "none" and self.training.mix is not None:
            raise ValueError("training.mix makes soft targets, which an ordinal loss does not take")
        mix, classes = self.training.mix, self.label.classes
        if mix is not None and isinstance(mix.rarest, str) and mix.rarest not in classes:
            found = f"training.mix.rarest={mix.rarest!r}"
            raise ValueError(f"{found}: expected true, false or one of {', '.join(map(repr, classes))}")
        if self.training.feature_views is not None and self.training.mix is not None:
            raise ValueError("training.mix needs pixels; training.feature_views trains on features without")
        weights = self.loss.class_weights
        if isinstance(weights, list) and len(weights) != len(self.label.classes):
            raise ValueError(f"loss.class_weights has {len(weights)} values for {len(self.label.classes)} classes")
        return self

    @model_validator(mode="after")
    def _check_teacher(self) -> Self:
        names = [term.name for term in self.loss.terms if term.name in TEACHING]
        if self.teacher is None and names:
            raise ValueError(f"loss.terms: {names[0]} needs a teacher")
        if self.teacher is not None and "embedding" in names:
            if self.teacher.file is None:
                raise ValueError("loss.terms: embedding needs teacher.file, found teacher.runs")
            if self.training.mix is not None:
                raise ValueError("training.mix: halves of two faces have no embedding; leave out one of the two")
        return self

    def to_yaml(self) -> str:
        """The resolved config, every default written out, as YAML that reads back to the same config."""
        return dump_yaml(self.model_dump())


def find_unused_settings(config: TaskConfig) -> list[str]:
    """Settings that training would ignore, a message each; the schema accepts them, so that old heads load."""
    problems = []
    if config.training.feature_views is not None and config.backbone.freeze != "all":
        problems.append(
            f"training.feature_views: needs backbone.freeze=all, found {config.backbone.freeze} (features of "
            "a partly frozen backbone were removed in 0.2); set it to null or freeze all"
        )
    if config.optimiser.coral_lr != Optimiser.model_fields["coral_lr"].default and config.label.ordinal != "coral":
        problems.append("optimiser.coral_lr: only label.ordinal=coral uses it; leave it out")
    if config.teacher is not None and {term.name for term in config.loss.terms}.isdisjoint(TEACHING):
        users = " or ".join(TEACHING)
        problems.append(f"teacher: only {users} in loss.terms uses it; add one or leave the teacher out")
    weights, names = config.loss.class_weights, [term.name for term in config.loss.terms]
    off = weights == "none" or (isinstance(weights, Balanced) and weights.balanced == 0)
    if not off and set(names) <= set(UNWEIGHTED):
        problems.append(f"loss.class_weights: {' and '.join(names)} use none; set it to none, or add a loss that does")
    problems += [
        f"loss.terms: {term.name} does not use {key}; leave it out"
        for term in config.loss.terms
        for key, users in (
            ("gamma", ("focal",)),
            ("label_smoothing", ("focal", "cross_entropy")),
            ("temperature", ("distillation",)),
        )
        if getattr(term, key) != LossTerm.model_fields[key].default and term.name not in users
    ]
    return problems
