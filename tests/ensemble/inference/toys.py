"""Small heads whose probabilities differ from image to image and from view to view."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from data.dataset import Sample
from ensemble.inference.predictor import Task, build_task
from heads.config.loader import check_config
from heads.config.task import TaskConfig
from heads.load import TrainedHead, build_target

HEIGHT, WIDTH = 16, 12


class Linear(nn.Module):
    """Random linear logits of the pixels; records the shapes of its batches."""

    def __init__(self, outputs: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> None:
        super().__init__()
        self.weight = torch.randn(outputs, 3 * height * width, generator=torch.Generator().manual_seed(seed))
        self.batches: list[torch.Size] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.batches.append(pixels.shape)
        return (pixels.flatten(1) - 0.5) @ self.weight.T


def changed(config: TaskConfig, **sections: Mapping[str, object]) -> TaskConfig:
    """A config with other keys in some sections, its images resized to `HEIGHT` x `WIDTH` unless one says else."""
    values = config.model_dump()
    values["pixels"]["evaluate"] = [{"letterbox": {"height": HEIGHT, "width": WIDTH}}]
    for section, keys in sections.items():
        values[section] |= keys
    return check_config(TaskConfig, values, "changed")


def make_task(config: TaskConfig, *heads: nn.Module) -> Task:
    """A task of these heads, or of one `Linear`."""
    target = build_target(config.label)
    heads = heads or (Linear(target.outputs),)
    return build_task([TrainedHead(head.eval(), target, config, {}) for head in heads])


def sample(pixels: Tensor, errors: Sequence[str] | None = None) -> Sample:
    """A batch of pixels of one pipeline."""
    return Sample([pixels], torch.zeros(len(pixels)), errors or [""] * len(pixels))
