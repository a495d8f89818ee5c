"""Test-time views: ways to look at the same pixels again, and ways to merge what a head said of each.

A view is a function of float pixels [N, 3, H, W] in 0..1 to pixels of the same shape. Probabilities are
merged, never logits: a head's logits are not on one scale from image to image.
"""

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
    """The image as it is."""
    return pixels


def hflip(pixels: Tensor) -> Tensor:
    """Left and right exchanged.

    >>> hflip(torch.arange(3.0).view(1, 1, 1, 3)).flatten().tolist()
    [2.0, 1.0, 0.0]
    """
    return pixels.flip(-1)


def center_crop(pixels: Tensor, share: Annotated[float, Field(gt=0, le=1)] = 0.9) -> Tensor:
    """The middle `share` of each side, scaled up to the full size."""
    height, width = _size(pixels)
    kept_height, kept_width = max(round(height * share), 1), max(round(width * share), 1)
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    kept = pixels[..., top : top + kept_height, left : left + kept_width]
    return F.interpolate(kept, (height, width), mode="bilinear", align_corners=False, antialias=True)


def shift(pixels: Tensor, x: Offset = 0.0, y: Offset = 0.0) -> Tensor:
    """Moved right by `x` of the width and down by `y` of the height; edges repeat into the gap."""
    height, width = _size(pixels)
    across, down = round(x * width), round(y * height)
    padding = (max(across, 0), max(-across, 0), max(down, 0), max(-down, 0))
    padded = F.pad(pixels, padding, mode="replicate")
    top, left = max(-down, 0), max(-across, 0)
    return padded[..., top : top + height, left : left + width]


def _size(pixels: Tensor) -> tuple[int, int]:
    """Height and width as whole numbers: while a graph is traced for an export, a shape holds tensors."""
    height, width = pixels.shape[-2:]
    return int(height), int(width)


def brightness(pixels: Tensor, factor: Annotated[float, Field(gt=0, le=4)] = 1.1) -> Tensor:
    """Every channel times `factor`, cut off at 1."""
    return (pixels * factor).clamp(max=1.0)


class ViewCache:
    """A batch of images in views, each computed once however many heads look at it.

    Args:
        pixels: uint8 [N, 3, H, W].
    """

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self._identity = pixels.float() / 255
        self._seen: dict[str, Tensor] = {}

    def __call__(self, name: str, view: View) -> Tensor:
        """The batch in a view, float [N, 3, H, W] in 0..1; a view is known by its name (see `make_views`)."""
        if name not in self._seen:
            self._seen[name] = view(self._identity)
        return self._seen[name]


VIEWS: dict[str, Callable[..., Tensor]] = {
    "identity": identity,
    "hflip": hflip,
    "center_crop": center_crop,
    "shift": shift,
    "brightness": brightness,
}


def make_views(steps: Sequence[Step]) -> dict[str, View]:
    """Views by their description, in order; identity comes first whether listed or not.

    Raises:
        ValueError: an unknown view, wrong arguments or the same view twice.
    """
    views: dict[str, View] = {"identity": identity}
    seen: list[tuple[str, dict[str, Any]]] = []
    # Each is called on a single pixel, so that wrong arguments are told here and not at the first image.
    for step in build_ops(steps, VIEWS, torch.zeros(1, 3, 1, 1)):
        bound = signature(VIEWS[step.name]).bind(None, **step.arguments)
        bound.apply_defaults()
        if (step.name, bound.arguments) in seen and step.name != "identity":
            raise ValueError(f"{step} stands in the list twice; it would only count double")
        seen.append((step.name, bound.arguments))
        views[str(step)] = partial(VIEWS[step.name], **step.arguments)
    return views


def mean(probabilities: Tensor) -> Tensor:
    """Arithmetic mean over views: [V, N, C] -> [N, C]."""
    return probabilities.mean(dim=0)


def geometric(probabilities: Tensor) -> Tensor:
    """Geometric mean over views, rows made to sum to 1 again: [V, N, C] -> [N, C]."""
    logs = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
    return logs.mean(dim=0).softmax(dim=1)


def vote(probabilities: Tensor) -> Tensor:
    """Share of views whose answer is each class: [V, N, C] -> [N, C]; a tie goes to the larger mean.

    The mean probability is mixed in at a weight too small to outvote a view.
    """
    views, _, classes = probabilities.shape
    votes = F.one_hot(probabilities.argmax(dim=2), classes).to(probabilities.dtype).mean(dim=0)
    small = 1 / (2 * views + 2)
    return votes * (1 - small) + probabilities.mean(dim=0) * small


MERGES: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "geometric": geometric, "vote": vote}
