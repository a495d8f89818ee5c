"""A convolution of 3x3 in fewer multiplications: Winograd's F(4x4, 3x3), for processors.

A tile of 4x4 outputs takes 144 multiplications a channel directly and 36 here: 36 matrix products over all
tiles, between three small fixed linear maps (Lavin & Gray 2016, arXiv:1509.09308, section 4.3). It is the same
function in exact arithmetic; in single precision answers are some 1e-5 of the largest one away.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

OUTPUTS, INPUTS = 4, 6  # of a tile, each way
# Tiles that are worked on together: what is made of them on the way stays in the cores' caches.
TOGETHER = 320

# One dimension of the three maps: of inputs (B transposed), of weights (G) and of outputs (A transposed).
_INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_WEIGHT = torch.tensor(  # times 24
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
)
_OUTPUT = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# Both dimensions at once, in double precision: [36, 36], [36, 9] and [16, 36].
INPUT_MAP, WEIGHT_MAP, OUTPUT_MAP = (
    torch.kron(*[each.double()] * 2) for each in (_INPUT, _WEIGHT.double() / 24, _OUTPUT)
)


def tiles_of(height: int, width: int) -> tuple[int, int]:
    """Tiles down and across, the last ones over the edge."""
    return -(-height // OUTPUTS), -(-width // OUTPUTS)


def mapped(weight: Tensor) -> Tensor:
    """Weights [K, C, 3, 3] as the 36 matrices [36, C, K] that tiles are multiplied by."""
    outputs, inputs = weight.shape[:2]
    flat = weight.permute(2, 3, 1, 0).reshape(9, inputs * outputs)
    return (WEIGHT_MAP.to(weight) @ flat).view(INPUTS**2, inputs, outputs)


def convolved(pixels: Tensor, weights: Tensor) -> Tensor:
    """Pixels [N, C, H, W], padded by one, and weights of `mapped` to [N, K, H, W], in channels-last memory."""
    out: Tensor = _Convolution.apply(pixels, weights)
    return out


class _Convolution(torch.autograd.Function):
    """Pixels [N, C, H, W] and mapped weights [36, C, K] to [N, K, H, W]."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weights: Tensor) -> Tensor:
        number, _, height, width = pixels.shape
        out = pixels.new_empty(number, height, width, weights.shape[2])
        at_once = _at_once(height, width)
        inputs = []
        for part, place in zip(_parts(pixels, at_once), torch.split(out, at_once), strict=True):
            tiles = _mapped_tiles(_stacked(part))
            place.copy_(_untiled(OUTPUT_MAP.to(tiles) @ torch.bmm(tiles, weights).flatten(1), place))
            if ctx.needs_input_grad[1]:
                inputs.append(tiles)
        ctx.save_for_backward(weights, *inputs)
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weights, *inputs = ctx.saved_tensors
        number, _, height, width = gradient.shape
        of_pixels = (
            gradient.new_empty(number, height, width, weights.shape[1]) if ctx.needs_input_grad[0] else None
        )
        of_weights = torch.empty_like(weights) if inputs else None
        at_once = _at_once(height, width)
        for at, part in enumerate(_parts(gradient, at_once)):
            products = (OUTPUT_MAP.to(part).t() @ _tiled(_stacked(part))).view(INPUTS**2, -1, weights.shape[2])
            if of_weights is not None:
                # Beta 0: what stands in new memory does not count.
                of_weights.baddbmm_(inputs[at].transpose(1, 2), products, beta=min(at, 1))
            if of_pixels is not None:
                tiles = INPUT_MAP.to(part).t() @ torch.bmm(products, weights.transpose(1, 2)).flatten(1)
                place = of_pixels[at * at_once :][: len(part)]
                place.copy_(_overlapped(tiles, place))
        return None if of_pixels is None else of_pixels.permute(0, 3, 1, 2), of_weights


def _parts(images: Tensor, at_once: int) -> tuple[Tensor, ...]:
    """Images [N, C, H, W] as [n, H, W, C], so many at once."""
    return torch.split(images.permute(0, 2, 3, 1), at_once)


def _at_once(height: int, width: int) -> int:
    """Images that are worked on together."""
    down, across = tiles_of(height, width)
    return max(TOGETHER // (down * across), 1)


def _rows(height: int) -> int:
    """Rows that an image takes: where tiles would reach over its lower edge, the next one begins a row below.

    The row of zeros between them is the padding of both.

    >>> [_rows(height) for height in (20, 19, 10, 5)]
    [20, 19, 11, 6]
    """
    return height + 1 if height + 1 < tiles_of(height, height)[0] * OUTPUTS else height


def _stacked(images: Tensor) -> Tensor:
    """Images [N, H, W, C] as they are, or as one tall image [1, N * `_rows`, W, C] of fewer tiles."""
    number, height, width, channels = images.shape
    if (rows := _rows(height)) == height:
        return images
    return F.pad(images, (0, 0, 0, 0, 0, rows - height)).reshape(1, number * rows, width, channels)


def _apart(whole: Tensor, like: Tensor) -> Tensor:
    """The reverse of `_stacked`, of images with more below and beside: [N, H, W, C] as `like` is."""
    number, height, width, channels = like.shape
    if (rows := _rows(height)) != height:
        whole = whole[0, : number * rows].view(number, rows, -1, channels)
    return whole[:, :height, :width]


def _tiling(like: Tensor) -> tuple[int, int, int, int]:
    """Of images [N, H, W, C], as `_stacked` gives them: their number, tiles down and across, channels."""
    number, height, width, channels = like.shape
    if (rows := _rows(height)) != height:
        number, height = 1, number * rows
    return number, *tiles_of(height, width), channels


def _mapped_tiles(images: Tensor) -> Tensor:
    """Overlapping input tiles of images [N, H, W, C] through the input's map: [36, tiles, C]."""
    _, height, width, channels = images.shape
    down, across = tiles_of(height, width)
    below, beside = down * OUTPUTS + 1 - height, across * OUTPUTS + 1 - width
    padded = F.pad(images, (0, 0, 1, beside, 1, below))
    tiles = padded.unfold(1, INPUTS, OUTPUTS).unfold(2, INPUTS, OUTPUTS)  # [N, down, across, C, 6, 6]
    flat = tiles.permute(4, 5, 0, 1, 2, 3).reshape(INPUTS**2, -1)
    return (INPUT_MAP.to(images) @ flat).view(INPUTS**2, -1, channels)


def _untiled(tiles: Tensor, like: Tensor) -> Tensor:
    """Output tiles [16, tiles * K] put side by side and cut to [N, H, W, K] as `like` is."""
    number, down, across, channels = _tiling(like)
    apart = tiles.view(OUTPUTS, OUTPUTS, number, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    return _apart(apart.reshape(number, down * OUTPUTS, across * OUTPUTS, channels), like)


def _tiled(gradient: Tensor) -> Tensor:
    """The reverse of `_untiled`: a stacked gradient [N, H, W, K] as output tiles [16, tiles * K]."""
    number, height, width, channels = gradient.shape
    down, across = tiles_of(height, width)
    below, beside = down * OUTPUTS - height, across * OUTPUTS - width
    padded = F.pad(gradient, (0, 0, 0, beside, 0, below))
    apart = padded.reshape(number, down, OUTPUTS, across, OUTPUTS, channels)
    return apart.permute(2, 4, 0, 1, 3, 5).reshape(OUTPUTS**2, -1)


def _overlapped(tiles: Tensor, like: Tensor) -> Tensor:
    """Input tiles [36, tiles * C] added up where they lie, cut to [N, H, W, C] as `like` is."""
    number, down, across, channels = _tiling(like)
    apart = tiles.view(INPUTS, INPUTS, number, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    # A tile is as wide as the distance to the next one, and two more: these go to the next one's place.
    total = like.new_zeros(number, down + 1, OUTPUTS, across + 1, OUTPUTS, channels)
    total[:, :-1, :, :-1] = apart[:, :, :OUTPUTS, :, :OUTPUTS]
    total[:, 1:, :2, :-1] += apart[:, :, OUTPUTS:, :, :OUTPUTS]
    total[:, :-1, :, 1:, :2] += apart[:, :, :OUTPUTS, :, OUTPUTS:]
    total[:, 1:, :2, 1:, :2] += apart[:, :, OUTPUTS:, :, OUTPUTS:]
    whole = total.view(number, (down + 1) * OUTPUTS, (across + 1) * OUTPUTS, channels)
    return _apart(whole[:, 1:, 1:], like)
