"""Where a backbone's convolutions are computed by `heads.model.winograd`, on processors and in single precision.

Measured on two cores of an Intel Xeon with AVX-512, for images of 160x120: the convolutions of resnet18 that
are chosen here take half to two thirds of the time of oneDNN's, forward and backward; those of 64 channels gain
nothing.
"""

from pathlib import Path
from typing import TypeGuard

from torch import Tensor, nn
from torch.nn import functional as F

from data.runtime.processor import CPUINFO, is_intel
from heads.model.winograd import INPUTS, convolved, mapped, tiles_of

LEAST_CHANNELS = 128
LEAST_TILES = 32  # with fewer the 36 matrices of weights cost more to read than to multiply by


class Winograd(nn.Module):
    """Takes the place of a 3x3 convolution of stride 1: pixels [N, C, H, W] to [N, K, H, W], channels last.

    Its parameters are the convolution's own, under the same names. Where it does not pay it convolves directly.

    Args:
        convolution: one that `fits`.
        fixed: its weights no longer change: what is made of them is kept, in four times their memory.
    """

    kept: Tensor | None

    def __init__(self, convolution: nn.Conv2d, fixed: bool = False) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.register_buffer("kept", mapped(self.weight.detach()) if fixed else None, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        if not pays(pixels):
            return F.conv2d(pixels, self.weight, self.bias, padding=1)
        weights = mapped(self.weight) if self.kept is None else self.kept
        out = convolved(pixels, weights)
        return out if self.bias is None else out + self.bias[:, None, None]


def tiles_pay(told: Path = CPUINFO) -> bool:
    """Whether resnet18 is faster by tiles on this processor: where PyTorch's matrix products are made for it.

    They are MKL's. On two cores of an AMD EPYC (Zen 4) whole resnet18s at 160x120 answer 0.92 to 0.97 times as
    many images by tiles as directly, and train 0.78 to 0.90 times as many; on one core of it 1.0 to 1.05
    and 0.92 to 1.11 times.

    Args:
        told: Linux's description of the processor.
    """
    return is_intel(told)


def with_winograd(module: nn.Module, fixed: bool = False) -> nn.Module:
    """Replace, in place, the convolutions that `fits` chooses; returns `module`."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if fits(child):
                parent.register_module(name, Winograd(child, fixed))
    return module


def fits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a convolution of 3x3, stride 1 and padding 1, over enough channels."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and module.stride == module.padding == module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and module.in_channels >= LEAST_CHANNELS
    )


def pays(pixels: Tensor) -> bool:
    """Whether pixels [N, C, H, W] are tiled with little waste, and are many tiles."""
    number, _, height, width = pixels.shape
    down, across = tiles_of(height, width)
    tiles = down * across
    return number * tiles >= LEAST_TILES and 2 * INPUTS**2 * tiles <= 9 * height * width
