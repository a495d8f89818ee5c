"""Backbones: torchvision's resnets and Keras's ResNet-50 without their classifier; freezing of their stages.

torchvision's resnet50 halves the image in a block's 3x3 convolution, Keras's in the 1x1 before it (He et al.
2015, arXiv:1512.03385). The stem changed between releases of Keras while the shapes of the weights did not, so
that each release is a backbone of its own name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

# Modules of each stage from the pixels up; together they are the forward pass, whose output is then flattened.
STAGES = {
    "stem": ("conv1", "bn1", "relu", "maxpool"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4", "avgpool"),
}


@dataclass(frozen=True)
class Release:
    """Differences between releases of Keras."""

    epsilon: float  # of every batch norm
    same: bool  # the first convolution has TensorFlow's "same" padding, not 3 on each side
    pool_padding: int  # on each side, before the first pooling


RELEASES = {
    "resnet50_keras": Release(1.001e-5, False, 1),  # tf.keras, Keras 3 and keras_applications from 1.0.7
    "resnet50_keras_2_2": Release(1e-3, False, 1),
    "resnet50_keras_2_0": Release(1e-3, False, 0),  # and Keras 2.2.0
    "resnet50_keras_2_1": Release(1e-3, True, 0),
}


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the odd pixel on the right and at the bottom."""

    def forward(self, input: Tensor) -> Tensor:
        padding: list[int] = []
        for side, kernel, stride in zip((3, 2), self.kernel_size[::-1], self.stride[::-1], strict=True):
            size = input.shape[side]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(input, padding))


def keras_resnet50(release: Release) -> nn.Module:
    """Build Keras's ResNet-50 with random weights, its tensors named as in torchvision's resnet50."""
    net = models.resnet50(weights=None, norm_layer=partial(nn.BatchNorm2d, eps=release.epsilon))
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    if release.same:
        net.conv1 = SameConv(3, 64, 7, stride=2)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    net.maxpool = nn.MaxPool2d(3, 2, release.pool_padding)
    return net  # type: ignore[no-any-return]


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": models.resnet18,
    "resnet34": models.resnet34,
    "resnet50": models.resnet50,
    **{name: partial(keras_resnet50, release) for name, release in RELEASES.items()},
}


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """Build a backbone with random weights, pixels [N, 3, H, W] -> features [N, F]; return it and F."""
    backbone = BACKBONES[name]()
    features = backbone.get_submodule("fc").in_features
    assert isinstance(features, int)
    backbone.register_module("fc", nn.Identity())
    return backbone, features


def freeze(backbone: nn.Module, up_to: str) -> list[nn.Module]:
    """Stop the gradients of all stages up to and including `up_to`: none, a key of `STAGES`, or all.

    Returns the frozen modules; the caller keeps them in eval mode, so that batch statistics stay as well.
    """
    stages = list(STAGES)
    count = 0 if up_to == "none" else stages.index("layer4" if up_to == "all" else up_to) + 1
    frozen = [backbone.get_submodule(name) for stage in stages[:count] for name in STAGES[stage]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen
