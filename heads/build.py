"""Where a config becomes objects: a target, a head, its loss and its learner, and a head out of its file.

Scripts call this; everything else takes plain arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data.annotations.class_balance import balanced_weights
from data.runtime.errors import InputError, raise_all
from data.runtime.files import unsafe_reason
from heads.config import task as schema
from heads.config.loader import check_config, read_stored_config
from heads.config.task import Label
from heads.model.backbones import load_backbone, load_imagenet, read_tensors
from heads.model.frozen_split import TrainedLayers
from heads.model.head import Head, LastLayer, SumOfParts
from heads.objective.losses import WeightedSum, make_loss
from heads.objective.ordinal import CoralLayer
from heads.objective.targets import Target
from heads.run.checkpoint import check_shapes, find_description, load_tensors, load_tensors_into
from heads.run.folder import RunFolder
from heads.run.leakage import find_source_run
from heads.train.mixing import Mixing
from heads.train.optimiser import make_optimiser, make_schedule
from heads.train.state import TrainState, make_average


@dataclass(frozen=True)
class TrainedHead:
    """A head out of its checkpoint, in eval mode, with what it says of itself.

    Attributes:
        head: a `Head`, or what an engine made of one: pixels to the same logits.
        target: what the logits mean.
        config: that it was trained by.
        validation: its figures on the validation people.
        file: the checkpoint, `validation.npz` beside it; of no meaning for a head made in memory.
        checksum: the file's SHA-256, where it was asked for.
        box_margin: of the boxes that its training images were cropped to; None: they were shown whole.
    """

    head: nn.Module
    target: Target
    config: schema.TaskConfig
    validation: dict[str, Any]
    file: Path = Path()
    checksum: str = ""
    box_margin: float | None = None

    @property
    def run(self) -> RunFolder:
        """The folder of its run, where the file stands."""
        return RunFolder(self.file.parent)


def build_target(label: Label) -> Target:
    """The target that a label section describes."""
    borders = None if label.borders is None else tuple(label.borders)
    ordinal = None if label.ordinal == "none" else label.ordinal
    d = label.distribution
    if label.parts:
        parts = tuple(build_target(Label(**part.model_dump())) for part in label.parts)
        return Target("", tuple(label.classes), parts=parts)
    column = label.column or ""
    if d is None:
        return Target(column, tuple(label.classes), borders, ordinal=ordinal)
    return Target(column, tuple(label.classes), borders, (d.low, d.high), d.sigma)


def build_mixing(mix: schema.Mix | None, counts: npt.NDArray[np.int64], target: Target) -> Mixing | None:
    """The config's mixing of images; the rarest class is that of the training fold's `counts` [C]."""
    if mix is None:
        return None
    return Mixing(mix.method, mix.p, 1.0, int(counts.argmin()) if mix.rarest else None, target.pool)


def build_head(config: schema.TaskConfig) -> Head:
    """The config's head with random weights, drawn from PyTorch's generator, in channels-last memory."""
    target = build_target(config.label)
    head = Head(
        config.backbone.name,
        target.outputs,
        config.classifier.hidden,
        config.classifier.dropout,
        config.pixels.mean,
        config.pixels.std,
        last=_last_layer(config),
    )
    return head.to(memory_format=torch.channels_last)


def _last_layer(config: schema.TaskConfig) -> LastLayer:
    """What makes the logits: a plain layer, one with one weight vector, or one summed over a label's parts."""
    if config.classifier.factored:
        return partial(SumOfParts, [len(part.classes) for part in config.label.parts])
    return CoralLayer if config.label.ordinal == "coral" else nn.Linear


def describe_outputs(label: Label, factored: bool) -> dict[str, Any]:
    """What tells the outputs of two heads apart where there are as many, by the config's keys.

    Outputs that are numbers mean the same whatever classes the borders cut of them.
    """
    d = label.distribution
    return {
        "label.distribution": None if d is None else f"{d.low} to {d.high}",
        "label.classes": label.classes if d is None else None,
        "label.ordinal": label.ordinal,
        "label.parts": [part.classes for part in label.parts] if factored else None,
        "classifier.factored": factored,
    }


def load_backbone_weights(
    head: Head,
    backbone: schema.Backbone,
    runs: Path,
    fold: int | None,
    meaning: Mapping[str, Any] | None = None,
) -> str:
    """Give the head's backbone the weights that its config names, freeze it; return what to tell the user.

    Args:
        head: its backbone is filled in place.
        backbone: `weights` is imagenet, random, run:NAME or a file.
        runs: where run:NAME stands.
        fold: whose run:NAME/fold-K is taken where there is one.
        meaning: of the head's outputs (`describe_outputs`), for a classifier that comes along; None: any will do.

    Raises:
        InputError: the file is not there or does not fit, or says that its pixels are scaled otherwise, or that
            its classifier's outputs mean others.
    """
    weights = backbone.weights
    if weights == "random":
        told = "random weights"
    elif weights == "imagenet":
        told = f"imagenet: {load_imagenet(head.backbone, backbone.name)}"
    else:
        run = find_source_run(weights, runs, fold)
        path = Path(weights) if run is None else run.best
        _check_normalisation(path, head)
        report = load_backbone(head.backbone, path)
        if backbone.with_classifier:
            _check_outputs(path, meaning)
            prefix, tensors = "classifier.", read_tensors(path)
            own = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            if not own:
                raise InputError(
                    f"{path}: has no classifier, expected a head's file as backbone.with_classifier is true; "
                    "give one, or set that to false"
                )
            load_tensors_into(head.classifier, own, f"{path} ({prefix[:-1]})")
            report = replace(report, left=tuple(name for name in report.left if not name.startswith(prefix)))
        told = f"{path}: {report}" + ("; with its classifier" if backbone.with_classifier else "")
    head.freeze(backbone.freeze)
    return f"{told}; frozen: {backbone.freeze}"


def _check_normalisation(path: Path, head: Head) -> None:
    """Refuse a head's file whose backbone was fed with pixels that `head` would scale otherwise."""
    config = (find_description(path) or {}).get("config")
    if not isinstance(config, dict):
        return
    pixels = check_config(schema.Pixels, config.get("pixels"), f"{path}: pixels")
    raise_all(
        f"{path}: its backbone has learnt from pixels of another scale than this head's",
        [
            f"pixels.{key}: found {mine.flatten().tolist()}, expected {its}; set it to that"
            for key, its, mine in (("mean", pixels.mean, head.mean), ("std", pixels.std, head.std))
            if not torch.equal(torch.tensor(its), mine.flatten())
        ],
    )


def _check_outputs(path: Path, meaning: Mapping[str, Any] | None) -> None:
    """Refuse a head's file whose outputs are not those of `meaning`; a file that says nothing may be any."""
    config = (find_description(path) or {}).get("config")
    if meaning is None or not isinstance(config, dict):
        return
    stored = read_stored_config(schema.TaskConfig, config, str(path))
    found = describe_outputs(stored.label, stored.classifier.factored)
    raise_all(
        f"{path}: the outputs of its classifier mean others than this head's; give both the same label, or set "
        "backbone.with_classifier to false",
        [
            f"{key}: found {found[key]}, expected {expected}"
            for key, expected in meaning.items()
            if found[key] != expected
        ],
    )


def build_loss(loss: schema.Loss, counts: npt.NDArray[np.int64], target: Target) -> nn.Module:
    """The config's loss, its class weights taken from the training fold's `counts` [C] where balanced."""
    weight: torch.Tensor | None = None
    if loss.class_weights != "none":
        listed = loss.class_weights
        values = listed if isinstance(listed, list) else balanced_weights(counts, listed.balanced)
        weight = torch.as_tensor(values, dtype=torch.float32)[target.pool]
    terms = [make_loss(t.name, weight, t.gamma, t.label_smoothing) for t in loss.terms]
    return WeightedSum(terms, [t.factor for t in loss.terms])


def build_train_state(
    config: schema.TaskConfig, head: Head | TrainedLayers, steps_per_epoch: int
) -> TrainState:
    """Head (or what of it is trained), optimiser, schedule and, where asked for, average of weights."""
    o, s = config.optimiser, config.schedule
    optimiser = make_optimiser(
        head.backbone, head.classifier, o.name, o.lr, o.trunk_lr, o.weight_decay, o.momentum, o.stage_lr
    )
    schedule = make_schedule(
        optimiser, s.name, config.training.epochs, steps_per_epoch, s.warmup, s.step_epochs, s.step_factor
    )
    average = make_average(head, config.training.ema) if config.training.ema else None
    return TrainState(head, optimiser, schedule, average, steps_per_epoch=steps_per_epoch)


def load_head(path: Path) -> TrainedHead:
    """Read a checkpoint written by `heads.run.folder.save_head`; everything that it needs stands in it.

    Raises:
        InputError: not a whole checkpoint of ours, one whose tensors and config disagree, or one that names a
            file outside. No file that it names is opened in any case.
    """
    tensors, description = load_tensors(path)
    if not isinstance(description.get("config"), dict):
        raise InputError(f"{path}: found no config in it, expected a head's best.safetensors")
    config = read_stored_config(schema.TaskConfig, description["config"], str(path))
    for key, name in (("backbone.weights", config.backbone.weights), ("corrections", config.corrections)):
        if name is not None and unsafe_reason(name):
            raise InputError(f"{path}: its {key} is {name!r}, outside of its folder; expected a name alone")
    with torch.device("meta"):  # takes no memory: what a config asks for, its tensors must have paid for
        check_shapes(build_head(config), tensors, str(path))
    head = build_head(config)
    load_tensors_into(head, tensors, str(path))
    margin = description.get("box_margin")
    return TrainedHead(
        head.eval(),
        build_target(config.label),
        config,
        description.get("validation", {}),
        path,
        box_margin=float(margin) if isinstance(margin, int | float) else None,
    )
