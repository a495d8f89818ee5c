"""Steps of `data.transforms.ops` as modules, so that an exported graph takes whole images.

They give OpenCV's pixels by two matrices per image: shrinking averages by area, enlarging interpolates (a level
of 255 may differ), cropping selects, and the rest stays black.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from data.runtime.errors import InputError

MIN_SHARE = 1e-3  # of a pixel, below which OpenCV leaves it out of an average
LINEAR_STEPS = 2048  # OpenCV's interpolation weights are multiples of 1 / LINEAR_STEPS


class Letterbox(nn.Module):
    """Images uint8 [N, h, w, 3] of any one size to whole levels 0..255, float [N, 3, height, width].

    `stretch` makes it the step `resize`, which changes the aspect ratio.
    """

    def __init__(self, height: int, width: int, stretch: bool = False) -> None:
        super().__init__()
        self.height, self.width, self.stretch = height, width, stretch

    def forward(self, images: Tensor) -> Tensor:
        levels = images.permute(0, 3, 1, 2).float()
        rows, columns = _numbers(levels[0, 0, :, 0]), _numbers(levels[0, 0, 0, :])
        high, wide = rows[-1] + 1, columns[-1] + 1
        scale_high, scale_wide = self.height / high, self.width / wide
        if not self.stretch:
            scale_high = scale_wide = torch.minimum(scale_high, scale_wide)
        new_high = (high * scale_high).round().clamp(min=1.0)
        new_wide = (wide * scale_wide).round().clamp(min=1.0)
        least, most = torch.minimum(scale_high, scale_wide), torch.maximum(scale_high, scale_wide)
        area, both = (least < 1) & (most <= 1), (least < 1) & (most > 1)
        down = _weights(rows, high, new_high, self.height, area, both)
        across = _weights(columns, wide, new_wide, self.width, area, both)
        mixed = down @ levels @ across.transpose(0, 1)
        # OpenCV rounds halves up where it halves an image or interpolates, else to even.
        halved = (high == 2 * new_high) & (wide == 2 * new_wide)
        return torch.where(halved | ~area, (mixed + 0.5).floor(), mixed.round()).clamp(0.0, 255.0)


class CenterCrop(nn.Module):
    """Images uint8 [N, h, w, 3] of any one size to the step `center_crop`'s levels, float [N, 3, height, width]."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        levels = images.permute(0, 3, 1, 2).float()
        down = _selection(_numbers(levels[0, 0, :, 0]), self.height)
        return down @ levels @ _selection(_numbers(levels[0, 0, 0, :]), self.width).transpose(0, 1)


def _numbers(pixels: Tensor) -> Tensor:
    """Numbers from 0 of pixels in a line; computed, as exporters record sizes that are read as numbers as constants."""
    return torch.ones_like(pixels).double().cumsum(0) - 1


def _selection(places: Tensor, total: int) -> Tensor:
    """Weights [total, old] that select the middle pixels, or all of fewer with black ones around them."""
    beyond = (places[-1] + 1 - total) / 2
    first = torch.where(beyond > 0, beyond.floor(), beyond.ceil())
    target = torch.arange(total, dtype=torch.float64, device=places.device)
    return (target[:, None] + first == places[None]).float()


def _weights(places: Tensor, old: Tensor, new: Tensor, total: int, area: Tensor, both: Tensor) -> Tensor:
    """Weights [total, old] of the old pixels (`places`) in the new ones, which are centred among `total`.

    By area where the image shrinks; OpenCV interpolates in its own way where one side shrinks and the other grows.
    """
    before = ((total - new) / 2).floor()
    target = torch.arange(total, dtype=torch.float64, device=places.device) - before
    step = old / new
    low = target[:, None] * step
    overlap = torch.minimum(low + step, places[None] + 1) - torch.maximum(low, places[None])
    shares = torch.where(overlap > MIN_SHARE, overlap, torch.zeros_like(overlap)) / step
    beyond = target + 1 - (low.squeeze(1).floor() + 1) / step
    whole = low.squeeze(1).floor() + torch.where(beyond > 0, beyond - beyond.floor(), torch.zeros_like(beyond))
    centre = torch.minimum(torch.where(both, whole, (target + 0.5) * step - 0.5).clamp(min=0.0), old - 1)
    near = (1 - (centre[:, None] - places[None]).abs()).clamp(min=0.0)
    linear = (near * LINEAR_STEPS).round() / LINEAR_STEPS
    inside = (target >= 0) & (target < new)
    weights = torch.where(area, shares, linear)
    return torch.where(inside[:, None], weights, torch.zeros_like(weights)).float()


STEPS: dict[str, Callable[..., nn.Module]] = {
    "letterbox": Letterbox,
    "resize": partial(Letterbox, stretch=True),
    "center_crop": CenterCrop,
}


def make_scaling(steps: Sequence[Any], name: str) -> nn.Module:
    """Make the module for `pixels.evaluate` of the head `name`, which must be one of `STEPS`."""
    [(step, size)] = steps[0].items() if len(steps) == 1 and isinstance(steps[0], dict) else [("", {})]
    if step not in STEPS:
        expected = f"expected one of {', '.join(STEPS)}, to be exported as a graph; --format safetensors takes any"
        raise InputError(f"{name}: pixels.evaluate is {list(steps)}, {expected}")
    return STEPS[step](**size)


def make_letterbox(steps: Sequence[Any], name: str) -> Letterbox:
    """Make the module as `make_scaling` does, where only a letterbox will do."""
    module = make_scaling(steps, name)
    if not isinstance(module, Letterbox) or module.stretch:
        raise InputError(f"{name}: pixels.evaluate is {list(steps)}, expected one letterbox")
    return module
