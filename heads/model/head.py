"""One head: normalisation, backbone and classifier in one module, from pixels to logits."""

import hashlib
from collections.abc import Callable, Sequence
from math import prod
from typing import Self

import torch
from torch import Tensor, nn

from heads.model.backbones import build_backbone, freeze

LastLayer = Callable[[int, int], nn.Module]


class Head(nn.Module):
    """Pixels [N, 3, H, W], uint8 or float in 0..1, to logits [N, outputs]; normalisation is part of it.

    It also takes features [N, F] in place of pixels, to train on them where the backbone is frozen.

    Args:
        backbone: a key of `heads.model.backbones.BACKBONES`; its weights are random.
        outputs: number of logits.
        hidden: widths of hidden layers on the backbone, each followed by ReLU.
        dropout: probability before each linear layer, from 0 to below 1.
        mean, std: per channel, in 0..1.
        last: makes the last layer from the numbers of its features and outputs.
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
    ) -> None:
        super().__init__()
        self.backbone, features = build_backbone(backbone)
        self.classifier = make_classifier(features, outputs, hidden, dropout, last)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self._frozen: list[nn.Module] = []

    def freeze(self, up_to: str) -> None:
        """Freeze the backbone up to a stage (`heads.model.backbones.freeze`), its batch norm included."""
        self._frozen = freeze(self.backbone, up_to)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def features(self, pixels: Tensor) -> Tensor:
        """The backbone's features [N, F] of pixels, which are normalised first, in channels-last memory."""
        pixels = pixels.to(memory_format=torch.channels_last)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        features: Tensor = self.backbone((pixels - self.mean) / self.std)
        return features

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.classifier(pixels if pixels.ndim == 2 else self.features(pixels))
        return logits

    def features_checksum(self) -> str:
        """SHA-256 of all tensors that `features` depends on."""
        tensors = {f"layers.{name}": tensor for name, tensor in self.backbone.state_dict().items()}
        digest = hashlib.sha256()
        for name, tensor in sorted((tensors | {"mean": self.mean, "std": self.std}).items()):
            values = tensor.detach().cpu().contiguous().numpy()
            digest.update(f"{name} {values.dtype} {values.shape} ".encode() + values.tobytes())
        return digest.hexdigest()


def make_classifier(
    features: int, outputs: int, hidden: Sequence[int], dropout: float, last: LastLayer = nn.Linear
) -> nn.Sequential:
    """Make linear layers features -> hidden... -> outputs, with ReLU between and dropout before each."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Dropout(dropout), nn.Linear(features, width), nn.ReLU()]
        features = width
    return nn.Sequential(*layers, nn.Dropout(dropout), last(features, outputs))


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
