"""One head: normalisation, backbone and classifier in one module, from pixels to logits.

Backbones are torchvision's resnets (`heads.model.resnet`) and Keras's ResNet-50, which halves the image in
a block's first 1x1 convolution, not in its 3x3 one. Keras's stem changed between releases while the shapes of its
weights did not, so each release is a backbone of its own name.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.runtime.errors import InputError
from heads.model.resnet import BasicBlock, Bottleneck, ResNet

LastLayer = Callable[[int, int], nn.Module]
# Modules of each stage from the pixels up; together they are the forward pass, whose output is then pooled.
STAGES = {
    "stem": ("conv1", "bn1", "relu", "maxpool"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4",),
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


resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))


def keras_resnet50(release: Release) -> nn.Module:
    """Build Keras's ResNet-50 with random weights, its tensors named as in torchvision's resnet50."""
    net = resnet50()
    if release.same:
        net.conv1 = SameConv(3, 64, 7, stride=2)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        if isinstance(module, nn.Conv2d) and name.startswith(("layer2.0.conv", "layer3.0.conv", "layer4.0.conv")):
            module.stride = (2, 2) if name.endswith("conv1") else (1, 1)
        if isinstance(module, nn.BatchNorm2d):
            module.eps = release.epsilon
    net.maxpool = nn.MaxPool2d(3, 2, release.pool_padding)
    return net


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": resnet50,
    **{name: partial(keras_resnet50, release) for name, release in RELEASES.items()},
}


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """Build a backbone with random weights, pixels [N, 3, H, W] to features [N, F]; return it and F."""
    backbone = BACKBONES[name]()
    features = backbone.get_submodule("fc").in_features
    assert isinstance(features, int)
    backbone.register_module("fc", nn.Identity())
    return backbone, features


class Head(nn.Module):
    """Pixels [N, 3, H, W], uint8 or float in 0..1, to logits [N, outputs]; normalisation is part of it.

    It also takes features [N, F] in place of pixels, to train on them where the backbone is frozen.

    Args:
        backbone: a key of `BACKBONES`; its weights are random.
        hidden: widths of linear layers on the backbone, each followed by ReLU; dropout is before every linear layer.
        mean, std: per channel, in 0..1.
        last: makes the last layer from the numbers of its features and outputs.
        projected: size of a teacher's embeddings, which a linear layer predicts from the features in training alone:
            it then returns [N, outputs + projected]. A saved head does not have it.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        outputs: int,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        last: LastLayer = nn.Linear,
        projected: int = 0,
    ) -> None:
        super().__init__()
        self.backbone, features = build_backbone(backbone)
        self.projection = nn.Linear(features, projected) if projected else None
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Dropout(dropout), nn.Linear(features, width), nn.ReLU()]
            features = width
        self.classifier = nn.Sequential(*layers, nn.Dropout(dropout), last(features, outputs))
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self._frozen: list[nn.Module] = []

    def freeze(self, up_to: str) -> None:
        """Freeze the backbone's stages up to and including `up_to`: none, a key of `STAGES`, or all.

        Their batch norm stays in eval mode, so that its statistics do not change either.
        """
        stages = list(STAGES)
        count = 0 if up_to == "none" else len(stages) if up_to == "all" else stages.index(up_to) + 1
        self._frozen = [self.backbone.get_submodule(name) for stage in stages[:count] for name in STAGES[stage]]
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def features(self, pixels: Tensor) -> Tensor:
        """The backbone's features [N, F] of pixels, which are normalised first, in channels-last memory."""
        features: Tensor = self.backbone(self._normalise(pixels))
        return features

    def compute_layer(self, name: str, values: Tensor) -> Tensor:
        """Compute one stage of `STAGES`, or else the normalisation, from the output of the one before it."""
        if name not in STAGES:
            return self._normalise(values).to(self.backbone.get_parameter("conv1.weight").dtype)
        for module in STAGES[name]:
            values = self.backbone.get_submodule(module)(values)
        return values

    def classify(self, grid: Tensor) -> Tensor:
        """Logits [N, outputs] of the grid [N, F, h, w] after the last stage."""
        logits: Tensor = self.classifier(self.backbone.get_submodule("avgpool")(grid.float()).flatten(1))
        return logits

    def activation_maps(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, outputs] and their class activation maps, see `map_grid`."""
        for name in ("normalisation", *STAGES):
            pixels = self.compute_layer(name, pixels)
        return self.map_grid(pixels)

    def map_grid(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, outputs] and maps [N, outputs, h, w] (Zhou et al. 2016, arXiv:1512.04150) of a grid [N, F, h, w].

        A logit is its map's mean plus the output's bias; exact for classifiers without hidden layers alone.
        """
        bias = self.classifier(grid.new_zeros(1, grid.shape[1]))
        places = grid.permute(0, 2, 3, 1)  # the classifier of each place's features; its mean is that of the features
        maps = (self.classifier(places.flatten(0, 2)) - bias).unflatten(0, places.shape[:3]).permute(0, 3, 1, 2)
        return maps.mean(dim=(2, 3)) + bias, maps

    def _normalise(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(memory_format=torch.channels_last)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        return (pixels - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        features = pixels if pixels.ndim == 2 else self.features(pixels)
        logits: Tensor = self.classifier(features)
        if self.projection is None or not self.training:
            return logits
        return torch.cat([logits, self.projection(features)], dim=1)

    def features_checksum(self) -> str:
        """SHA-256 of all tensors that `features` depends on."""
        tensors = {f"layers.{name}": tensor for name, tensor in self.backbone.state_dict().items()}
        digest = hashlib.sha256()
        for name, tensor in sorted((tensors | {"mean": self.mean, "std": self.std}).items()):
            values = tensor.detach().cpu().contiguous().numpy()
            digest.update(f"{name} {values.dtype} {values.shape} ".encode() + values.tobytes())
        return digest.hexdigest()


class SumOfParts(nn.Module):
    """Joint logits [N, prod C] as sums of the parts' logits [N, sum C], the first part most significant.

    The softmax of the sums is the product of the parts' softmaxes; `sizes` are their numbers of classes C.
    """

    def __init__(self, sizes: Sequence[int], features: int, outputs: int) -> None:
        super().__init__()
        if prod(sizes) != outputs:
            raise ValueError(f"{outputs} outputs are not the combinations of {list(sizes)}")
        self.sizes = list(sizes)
        self.parts = nn.Linear(features, sum(sizes))

    def forward(self, features: Tensor) -> Tensor:
        joint = features.new_zeros(features.shape[0], 1)
        for logits in self.parts(features).split(self.sizes, dim=1):
            joint = (joint[:, :, None] + logits[:, None, :]).flatten(1)
        return joint


def check_shapes(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuse `tensors` whose names and shapes are not those of `module`, which may be on the meta device."""
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        first = f"{wrong[0]}: found {found.get(wrong[0], 'none')}, expected {expected.get(wrong[0], 'none')}"
        raise InputError(f"{name}: {len(wrong)} of its tensors do not fit its own config: {first}")


def load_tensors_into(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load `tensors` into `module`; refuse other names, other shapes and values that are not finite.

    A module on the meta device gets copies on the CPU, so that no random weights are drawn before.
    """
    check_shapes(module, tensors, name)
    bad = [key for key, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        raise InputError(f"{name}: {bad[0]} holds NaN or infinity, expected finite weights; train it again")
    own = module.state_dict()
    meta = any(tensor.is_meta for tensor in own.values())
    copies = {key: tensor.to(own[key].dtype, copy=True) for key, tensor in tensors.items()} if meta else dict(tensors)
    module.load_state_dict(copies, assign=meta)


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are; extremes, which NaN gets through to, are found several times as fast as `isfinite`."""
    ends = torch.stack(torch.aminmax(tensor)) if tensor.is_floating_point() and tensor.numel() else tensor
    return bool(torch.isfinite(ends).all())
