"""Test-time views: functions from float pixels [N, 3, H, W] in 0..1 to pixels of the same shape."""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from data.transforms.registry import Step, build_ops

View = Callable[[Tensor], Tensor]
Offset = Annotated[float, Field(ge=-0.5, le=0.5)]


def identity(pixels: Tensor) -> Tensor:
    """Return the pixels unchanged."""
    return pixels


def hflip(pixels: Tensor) -> Tensor:
    """Flip left and right.

    >>> hflip(torch.arange(3.0).view(1, 1, 1, 3)).flatten().tolist()
    [2.0, 1.0, 0.0]
    """
    return pixels.flip(-1)


def center_crop(pixels: Tensor, share: Annotated[float, Field(gt=0, le=1)] = 0.9) -> Tensor:
    """Crop the middle `share` of each side and resize it to the full size."""
    height, width = _size(pixels)
    inner_height, inner_width = max(round(height * share), 1), max(round(width * share), 1)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    cropped = pixels[..., top : top + inner_height, left : left + inner_width]
    return F.interpolate(cropped, (height, width), mode="bilinear", align_corners=False, antialias=True)


def shift(pixels: Tensor, x: Offset = 0.0, y: Offset = 0.0) -> Tensor:
    """Move right by `x` of the width and down by `y` of the height; edges repeat into the gap."""
    height, width = _size(pixels)
    across, down = round(x * width), round(y * height)
    padding = (max(across, 0), max(-across, 0), max(down, 0), max(-down, 0))
    padded = F.pad(pixels, padding, mode="replicate")
    top, left = max(-down, 0), max(-across, 0)
    return padded[..., top : top + height, left : left + width]


def _size(pixels: Tensor) -> tuple[int, int]:
    """Height and width as ints; while a graph is traced for an export, a shape holds tensors."""
    height, width = pixels.shape[-2:]
    return int(height), int(width)


def brightness(pixels: Tensor, factor: Annotated[float, Field(gt=0, le=4)] = 1.1) -> Tensor:
    """Multiply every channel by `factor` and clip at 1."""
    return (pixels * factor).clamp(max=1.0)


VIEWS: dict[str, Callable[..., Tensor]] = {
    "identity": identity,
    "hflip": hflip,
    "center_crop": center_crop,
    "shift": shift,
    "brightness": brightness,
}


def make_views(steps: Sequence[Step]) -> dict[str, View]:
    """Make views by their description, in order; identity comes first whether listed or not.

    Raises:
        ValueError: an unknown view, wrong arguments or the same view twice.
    """
    views: dict[str, View] = {"identity": identity}
    known: list[tuple[str, dict[str, Any]]] = []
    # Each is called on a single pixel, so that wrong arguments raise here and not at the first image.
    for step in build_ops(steps, VIEWS, torch.zeros(1, 3, 1, 1)):
        bound = signature(VIEWS[step.name]).bind(None, **step.arguments)
        bound.apply_defaults()
        if (step.name, bound.arguments) in known and step.name != "identity":
            raise ValueError(f"{step} is in the list twice, expected each view once")
        known.append((step.name, bound.arguments))
        views[str(step)] = partial(VIEWS[step.name], **step.arguments)
    return views
