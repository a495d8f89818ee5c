"""The step `letterbox` of `data.transforms.ops` as a module, so that an exported graph takes whole images.

It gives OpenCV's pixels by two matrices per image: shrinking averages by area, enlarging interpolates (a level
of 255 may differ), and the rest stays black.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data.runtime.errors import InputError

MIN_SHARE = 1e-3  # of a pixel, below which OpenCV leaves it out of an average
LINEAR_STEPS = 2048  # OpenCV's interpolation weights are multiples of 1 / LINEAR_STEPS


class Letterbox(nn.Module):
    """Images uint8 [N, h, w, 3] of any one size to whole levels 0..255, float [N, 3, height, width].

    Sizes are computed from tensors: exporters record sizes that are read as numbers as constants.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        levels = images.permute(0, 3, 1, 2).float()
        rows = torch.ones_like(levels[0, 0, :, 0]).double().cumsum(0)
        columns = torch.ones_like(levels[0, 0, 0, :]).double().cumsum(0)
        high, wide = rows[-1], columns[-1]
        scale = torch.minimum(self.height / high, self.width / wide)
        new_high = (high * scale).round().clamp(min=1.0)
        new_wide = (wide * scale).round().clamp(min=1.0)
        down = _weights(rows - 1, high, new_high, self.height, scale)
        across = _weights(columns - 1, wide, new_wide, self.width, scale)
        mixed = down @ levels @ across.transpose(0, 1)
        # OpenCV rounds halves up where it halves an image or interpolates, else to even.
        halved = (high == 2 * new_high) & (wide == 2 * new_wide)
        return torch.where(halved | (scale >= 1), (mixed + 0.5).floor(), mixed.round()).clamp(0.0, 255.0)


def _weights(places: Tensor, old: Tensor, new: Tensor, total: int, scale: Tensor) -> Tensor:
    """Weights [total, old] of the old pixels (`places`) in the new ones, which are centred among `total`."""
    before = ((total - new) / 2).floor()
    target = torch.arange(total, dtype=torch.float64, device=places.device) - before
    step = old / new
    low = target[:, None] * step
    overlap = torch.minimum(low + step, places[None] + 1) - torch.maximum(low, places[None])
    area = torch.where(overlap > MIN_SHARE, overlap, torch.zeros_like(overlap)) / step
    centre = torch.minimum(((target + 0.5) * step - 0.5).clamp(min=0.0), old - 1)
    near = (1 - (centre[:, None] - places[None]).abs()).clamp(min=0.0)
    linear = (near * LINEAR_STEPS).round() / LINEAR_STEPS
    inside = (target >= 0) & (target < new)
    weights = torch.where(scale < 1, area, linear)
    return torch.where(inside[:, None], weights, torch.zeros_like(weights)).float()


def make_letterbox(steps: Sequence[Any], name: str) -> Letterbox:
    """Make the module for `pixels.evaluate` of the head `name`, which must be one letterbox."""
    step = steps[0] if len(steps) == 1 else None
    size = step.get("letterbox") if isinstance(step, dict) else None
    if not size:
        raise InputError(f"{name}: pixels.evaluate is {list(steps)}, expected one letterbox, to be exported")
    return Letterbox(size["height"], size["width"])
