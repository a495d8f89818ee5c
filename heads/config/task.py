"""One head's YAML: the schema, every default, what it refuses; config stops at the script that reads it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from heads.config.label import Label
from heads.config.loader import Positive, Section
from heads.config.yaml_reader import dump_yaml

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and scikit-learn both take
THREE = Field(min_length=3, max_length=3)
Step = str | dict[str, dict[str, Any] | None]
Stage = Literal["none", "stem", "layer1", "layer2", "layer3", "layer4", "all"]
# Losses that no class weight enters: `heads.objective.losses.make_loss`.
UNWEIGHTED = ("soft_f1", "expectation")


class Split(Section):
    """Person-disjoint folds; heads that are merged must share this section, so that no head saw another's
    validation people.
    """

    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    seed: Seed = 0
    strata: dict[str, list[float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: expected 0 to {self.folds - 1}")
        return self


class Backbone(Section):
    """The backbone. `weights` is imagenet (a download), random, run:NAME (the best of that run) or a file.

    A file of `heads.convert` settles `name`, one of Keras's ResNet-50s, and the normalisation of `pixels`.

    `with_classifier` takes that head's classifier along, for a head with the same outputs.
    """

    name: Literal[
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet50_keras",
        "resnet50_keras_2_0",
        "resnet50_keras_2_1",
        "resnet50_keras_2_2",
    ] = "resnet18"
    weights: str = "imagenet"
    with_classifier: bool = False
    freeze: Stage = "none"


class Classifier(Section):
    """What stands on the backbone: hidden layers with ReLU, dropout before every linear layer.

    `factored`, for a label of parts: outputs for each part's classes, whose sums are the joint logits.
    """

    factored: bool = False
    hidden: list[Count] = Field(default_factory=list)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class LossTerm(Section):
    """One loss and its factor in the sum; only focal reads gamma, only it and cross entropy smoothing."""

    name: Literal["focal", "cross_entropy", "soft_f1", "expectation", "coral", "corn"]
    factor: Positive = 1.0
    gamma: NotNegative = 2.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Balanced(Section):
    """Weights (N / (C * n_c)) ** power from the training fold's counts; 0 is off, 1 balances in full."""

    balanced: Share


class Loss(Section):
    """One loss or the weighted sum of two, over class weights: none, a list, or balanced with a power."""

    terms: Annotated[list[LossTerm], Field(min_length=1, max_length=2)]
    class_weights: Literal["none"] | list[Positive] | Balanced = "none"


class Sampler(Section):
    """Rows of a class of n drawn n ** -power as often (0 off, 1 uniform); at most per_person of a person."""

    power: Share = 0.0
    per_person: Count | None = None


class Pixels(Section):
    """Named steps for training and for evaluation, and the normalisation that the head carries within it."""

    mean: Annotated[list[Share], THREE] = Field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: Annotated[list[Positive], THREE] = Field(default_factory=lambda: [0.229, 0.224, 0.225])
    train: Annotated[list[Step], Field(min_length=1)]
    evaluate: Annotated[list[Step], Field(min_length=1)]

    @field_validator("train", "evaluate")
    @classmethod
    def _known(cls, steps: list[Step]) -> list[Step]:
        from data.transforms.pipeline import Pipeline  # late: albumentations takes seconds to import

        # Two shapes stand for all: what comes out must not depend on what goes in, or no batch can be made.
        shapes = {
            Pipeline(steps)(np.zeros(shape, np.uint8), (0,)).shape for shape in ((48, 36, 3), (40, 52, 3))
        }
        if len(shapes) > 1:
            raise ValueError("images of different sizes stay so; add resize, letterbox or a crop")
        return steps


class Optimiser(Section):
    """lr is the classifier's, lr * trunk_lr that of the last stage; a stage has stage_lr of the next one's.

    Decay leaves biases and batch norm alone.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 1e-3
    trunk_lr: Share = 1.0
    stage_lr: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: NotNegative = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class Schedule(Section):
    """Learning rate over the run; `warmup` is a share of all steps (one_cycle: its rising part)."""

    name: Literal["one_cycle", "cosine", "step"] = "one_cycle"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.3
    step_epochs: Count = 1
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1


class Mix(Section):
    """A share p of each batch's images mixed with another, one of the rarest class if `rarest`."""

    method: Literal["mixup", "cutmix", "halves"]
    p: Share = 0.5
    alpha: Positive = 1.0
    rarest: bool = False


class Progressive(Section):
    """Images at a share `least` of height and width, growing until whole at a share `until` of the epochs."""

    least: Annotated[float, Field(ge=0.25, lt=1)] = 0.5
    until: Annotated[float, Field(gt=0, le=1)] = 0.75


class Training(Section):
    """Length, batches, mixing, choice of the best epoch, seed.

    `feature_views`, for a backbone that is frozen up to a stage: so many augmented views of each image are
    drawn once and shown in turn, epoch by epoch, and what the frozen stages make of them is kept; all of them
    are whole, so that it does not go with `resizing`.
    """

    epochs: Count
    batch_size: Count = 32
    clip_norm: Positive | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    select_by: Literal["macro_f1", "mae"] = "macro_f1"
    validate_every: Count = 1
    patience: Count | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mix: Mix | None = None
    resizing: Progressive | None = None
    feature_views: Count | None = None
    seed: Seed = 0
    workers: Annotated[int, Field(ge=0)] | None = None


class Views(Section):
    """Test-time views beside identity, which is always among them; each a name or {name: arguments}."""

    steps: list[Step] = Field(default_factory=list)
    merge: Literal["mean", "geometric", "vote"] = "mean"


class TaskConfig(Section):
    """All of one head's YAML."""

    task: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    corrections: str | None = None
    label: Label
    split: Split = Split()
    backbone: Backbone = Backbone()
    classifier: Classifier = Classifier()
    loss: Loss
    sampler: Sampler = Sampler()
    pixels: Pixels
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    training: Training
    views: Views = Views()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.training.select_by == "mae" and self.label.distribution is None:
            raise ValueError("training.select_by=mae needs label.distribution")
        if self.classifier.factored and not self.label.parts:
            raise ValueError("classifier.factored needs label.parts")
        if self.backbone.with_classifier and self.backbone.weights in ("imagenet", "random"):
            raise ValueError("backbone.with_classifier needs backbone.weights=run:NAME or a file of a head")
        ordinal = self.label.ordinal
        names = [term.name for term in self.loss.terms]
        if (ordinal != "none" and names != [ordinal]) or (ordinal == "none" and {"coral", "corn"} & set(names)):
            raise ValueError(
                f"label.ordinal={ordinal} with loss.terms {names}: coral and corn go with themselves"
            )
        if "expectation" in names and self.label.distribution is None:
            raise ValueError("loss.terms: expectation is over numbers: it needs label.distribution")
        if ordinal != "none" and self.training.mix is not None:
            raise ValueError("training.mix makes distributions, which an ordinal loss cannot read")
        weights = self.loss.class_weights
        if isinstance(weights, list) and len(weights) != len(self.label.classes):
            raise ValueError(
                f"loss.class_weights has {len(weights)} values for {len(self.label.classes)} classes"
            )
        return self

    @model_validator(mode="after")
    def _freezes_what_it_keeps(self) -> Self:
        if self.training.feature_views is None:
            return self
        if self.backbone.freeze == "none":
            raise ValueError("training.feature_views keeps what frozen stages make: it needs backbone.freeze")
        if self.training.mix is not None:
            raise ValueError("training.mix mixes pixels, which training.feature_views has none of")
        return self

    def to_yaml(self) -> str:
        """The resolved config, every default written out, as YAML that reads back to the same config."""
        return dump_yaml(self.model_dump())


def find_unused_settings(config: TaskConfig) -> list[str]:
    """What `config` asks of a training that would pass over it in silence, a problem each.

    For whoever trains to refuse. The schema itself takes such a config, since heads that were trained under one
    say so in their files and must open all the same.
    """
    problems = [
        f"label.training.leave_out: [{low:g}, {high:g}] holds no number; write the lower end first"
        for low, high in config.label.training.leave_out
        if low > high
    ]
    if config.training.resizing is not None and config.training.feature_views is not None:
        problems.append(
            "training.resizing: kept features are those of whole images; set it, or training.feature_views, "
            "to null"
        )
    weights, names = config.loss.class_weights, [term.name for term in config.loss.terms]
    off = weights == "none" or (isinstance(weights, Balanced) and weights.balanced == 0)
    if not off and set(names) <= set(UNWEIGHTED):
        problems.append(
            f"loss.class_weights: {' and '.join(names)} take none; set it to none, or add a loss that does"
        )
    problems += [
        f"loss.terms: {term.name} reads no {key}; leave it out"
        for term in config.loss.terms
        for key, readers in (("gamma", ("focal",)), ("label_smoothing", ("focal", "cross_entropy")))
        if getattr(term, key) != LossTerm.model_fields[key].default and term.name not in readers
    ]
    balances = (
        not off or config.sampler.power > 0 or (config.training.mix is not None and config.training.mix.rarest)
    )
    if config.label.training.borders and config.label.distribution is not None and not balances:
        problems.append(
            "label.training.borders: a distribution over numbers has no borders, and nothing here weighs or "
            "draws by classes; leave them out, or set loss.class_weights or sampler.power"
        )
    return problems


def default_path(task: str) -> Path:
    """Where a task's YAML stands unless --config names another."""
    return Path("configs") / f"{task}.yaml"
