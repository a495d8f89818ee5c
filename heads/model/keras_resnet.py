"""Keras's ResNet-50 as a backbone: the strides of the first version, biased convolutions, its epsilon.

torchvision's resnet50 halves the image in a block's 3x3 convolution, Keras's in the 1x1 before it (He et al.
2015, arXiv:1512.03385); weights of one in the other run without an error and mean nothing. The stem changed
between releases of Keras, and a file of weights fits them all, so that each is a backbone of its own name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models


@dataclass(frozen=True)
class Release:
    """What releases of Keras do differently.

    Attributes:
        epsilon: of every batch norm.
        same: the first convolution pads as TensorFlow's "same" does, not by 3 on each side.
        pool_padding: on each side, before the first pooling.
    """

    epsilon: float
    same: bool
    pool_padding: int


RELEASES = {
    "resnet50_keras": Release(1.001e-5, False, 1),  # tf.keras, Keras 3 and keras_applications from 1.0.7
    "resnet50_keras_2_2": Release(1e-3, False, 1),
    "resnet50_keras_2_0": Release(1e-3, False, 0),  # and Keras 2.2.0
    "resnet50_keras_2_1": Release(1e-3, True, 0),
}


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow's "same": the odd pixel on the right and at the bottom."""

    def forward(self, input: Tensor) -> Tensor:
        padding: list[int] = []
        for side, kernel, stride in zip((3, 2), self.kernel_size[::-1], self.stride[::-1], strict=True):
            size = input.shape[side]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(input, padding))


def keras_resnet50(release: Release, weights: Any = None) -> nn.Module:
    """Keras's ResNet-50 with random weights, its tensors named as torchvision's resnet50 names them."""
    net = models.resnet50(weights=weights, norm_layer=partial(nn.BatchNorm2d, eps=release.epsilon))
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    if release.same:
        net.conv1 = SameConv(3, 64, 7, stride=2)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    net.maxpool = nn.MaxPool2d(3, 2, release.pool_padding)
    return net  # type: ignore[no-any-return]


KERAS_BACKBONES: dict[str, Callable[..., nn.Module]] = {
    name: partial(keras_resnet50, release) for name, release in RELEASES.items()
}
