"""Steps of `data.transforms.ops` as modules, so that an exported graph takes whole images.

They give OpenCV's pixels by two matrices per image: shrinking averages by area, enlarging interpolates (a level
of 255 may differ), cropping selects, and the rest stays black.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from data.runtime.errors import InputError
from data.transforms.face_geometry import SQUARE, face_shares
from data.transforms.ops import STEPS as PIXEL_STEPS
from data.transforms.ops import AlignedCrop
from data.transforms.registry import Step, build_ops

MIN_SHARE = 1e-3  # of a pixel, below which OpenCV leaves it out of an average
LINEAR_STEPS = 2048  # OpenCV's interpolation weights are multiples of 1 / LINEAR_STEPS


class Letterbox(nn.Module):
    """Images uint8 [N, h, w, 3] of any one size to whole levels 0..255, float [N, 3, height, width].

    `stretch` makes it the step `resize`, which changes the aspect ratio; `margin` is that of an `aligned_crop` before.
    """

    def __init__(self, height: int, width: int, stretch: bool = False, margin: float | None = None) -> None:
        super().__init__()
        self.height, self.width, self.stretch, self.margin = height, width, stretch, margin

    def forward(self, images: Tensor) -> Tensor:
        levels = images.permute(0, 3, 1, 2).float()
        rows, columns = _numbers(levels[0, 0, :, 0]), _numbers(levels[0, 0, 0, :])
        high, wide = rows[-1] + 1, columns[-1] + 1
        if self.margin is not None:
            close, tall = map(chain.from_iterable, face_shares(self.margin))
            top, bottom, left, right = (
                (torch.where(high < SQUARE * wide, of_close, of_tall) * side).round()
                for side, of_close, of_tall in zip((high, high, wide, wide), close, tall, strict=True)
            )
            rows, columns, high, wide = rows - top, columns - left, bottom - top, right - left
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

    Places below 0 or from `old` on are outside of what is scaled, and weigh nothing.
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


def crop_margin(steps: Sequence[Step]) -> float | None:
    """Return the margin of the `aligned_crop` that `steps` begin with, None without one."""
    first = [op.result for op in build_ops(steps[:1], PIXEL_STEPS)]
    return first[0].margin if first and isinstance(first[0], AlignedCrop) else None


def make_scaling(steps: Sequence[Step], name: str) -> nn.Module:
    """Make the module for `pixels.evaluate` of the head `name`: one of `STEPS`; a crop to the face may precede two."""
    margin = crop_margin(steps)
    ops = build_ops(steps[margin is not None :], PIXEL_STEPS)
    crop = {} if margin is None else {"margin": margin}
    if len(ops) != 1 or ops[0].name not in STEPS or (crop and ops[0].name == "center_crop"):
        expected = (
            f"expected one of {', '.join(STEPS)}, or aligned_crop and one of letterbox, resize, to be exported as "
            "a graph; --format safetensors takes any"
        )
        raise InputError(f"{name}: pixels.evaluate is {list(steps)}, {expected}")
    return STEPS[ops[0].name](**ops[0].arguments, **crop)
