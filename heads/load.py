"""Load trained heads from their checkpoints: model, config and meaning of the outputs; imports nothing of training."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.dataset import apply_pipelines
from data.images.inputs import ImageInput, pixels_of
from data.runtime.errors import InputError
from data.runtime.files import unsafe_reason
from data.transforms.pipeline import Pipeline
from heads.config.loader import read_stored_config
from heads.config.task import Label, TaskConfig
from heads.model.head import Head, LastLayer, SumOfParts, check_shapes, load_tensors_into
from heads.objective.calibration import HIGHEST, LOWEST
from heads.objective.ordinal import CoralLayer
from heads.objective.targets import Target
from heads.run.checkpoint import load_tensors
from heads.run.folder import RunFolder, verify_checksum


@dataclass(frozen=True)
class TrainedHead:
    """A head loaded from its checkpoint, in eval mode: `head(pixels)` are its logits.

    Attributes:
        head: a `Head`, or its replacement by a backend: pixels to the same logits.
        target: meaning of the logits.
        config: that it was trained with.
        validation: its metrics on the validation set.
        file: the checkpoint, beside `validation.npz`; empty for a head made in memory.
        checksum: SHA-256 of the file, if it was computed.
        box_margin: margin of the boxes that its training images were cropped to; None: they were whole.
        temperature: calibrates its probabilities, see `heads.objective.calibration.scale`; 1: they stay.
    """

    head: nn.Module
    target: Target
    config: TaskConfig
    validation: dict[str, Any]
    file: Path = Path()
    checksum: str = ""
    box_margin: float | None = None
    temperature: float = 1.0

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute logits [N, outputs] of pixels [N, 3, H, W], uint8 or float in 0..1."""
        logits: torch.Tensor = self.head(pixels)
        return logits

    def transform(self, image: ImageInput) -> torch.Tensor:
        """Return the head's pixels, uint8 [3, H, W], of a path, a Pillow image or an array uint8 [H, W, 3] in RGB."""
        pipeline = Pipeline(self.config.pixels.evaluate)
        [pixels] = apply_pipelines([pipeline], pixels_of(image, least=pipeline.least), (0,))
        return pixels

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.config.label.classes

    @property
    def run(self) -> RunFolder:
        """The folder of the file."""
        return RunFolder(self.file.parent)


def build_target(label: Label) -> Target:
    """Build the target that a label section describes."""
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


def build_head(config: TaskConfig, projected: int = 0) -> Head:
    """Build a head with random weights from PyTorch's generator, in channels-last memory.

    `projected` is the size of a teacher's embeddings; see `Head`.
    """
    outputs, c, pixels = build_target(config.label).outputs, config.classifier, config.pixels
    last: LastLayer = CoralLayer if config.label.ordinal == "coral" else nn.Linear
    if c.factored:
        last = partial(SumOfParts, [len(part.classes) for part in config.label.parts])
    head = Head(config.backbone.name, outputs, c.hidden, c.dropout, pixels.mean, pixels.std, last, projected)
    return head.to(memory_format=torch.channels_last)


def load_head(path: Path) -> TrainedHead:
    """Load a head from a checkpoint of `heads.run.folder.save_head`, which holds everything it needs.

    Raises:
        InputError: no complete checkpoint of ours, one whose tensors do not fit its config, or one that names a
            file outside. No file that it names is opened.
    """
    tensors, description = load_tensors(path)
    if not isinstance(description.get("config"), dict):
        raise InputError(f"{path}: found no config in it, expected a head's best.safetensors")
    config = read_stored_config(TaskConfig, description["config"], str(path))
    names = [("backbone.weights", config.backbone.weights), ("corrections", config.corrections)]
    if config.teacher is not None:
        names += [("teacher", name) for name in (config.teacher.file, *config.teacher.runs)]
    for key, name in names:
        if name is not None and unsafe_reason(name):
            raise InputError(f"{path}: its {key} is {name!r}, outside of its folder; expected a name alone")
    with torch.device("meta"):  # uses no memory: a hostile config may ask for any size
        head = build_head(config)
        check_shapes(head, tensors, str(path))
    load_tensors_into(head, tensors, str(path))
    margin = description.get("box_margin")
    return TrainedHead(
        head.to(memory_format=torch.channels_last).eval(),
        build_target(config.label),
        config,
        description.get("validation", {}),
        path,
        box_margin=float(margin) if isinstance(margin, int | float) else None,
        temperature=get_temperature(description, path),
    )


def get_temperature(description: Mapping[str, Any], path: Path) -> float:
    """Get the temperature from the description of the checkpoint at `path`; 1 where it has none, as in version 0.1.

    InputError: it is no number in the range of fitted ones.
    """
    temperature = description.get("temperature", 1.0)
    if not (isinstance(temperature, int | float) and LOWEST <= temperature <= HIGHEST):
        raise InputError(f"{path}: its temperature is {temperature!r}, expected a number from {LOWEST} to {HIGHEST:g}")
    return float(temperature)


def load_verified_head(file: Path) -> TrainedHead:
    """Load a head and its checksum, held against its run's manifest."""
    checksum, note = verify_checksum(file)
    print(note, end="\n" if note else "", file=sys.stderr)
    return replace(load_head(file), checksum=checksum)
