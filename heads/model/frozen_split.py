"""A head cut in two where its frozen part ends: pixels to features, features to logits.

Both parts are the head's own modules, so that what the second one learns the head has learnt.
"""

import hashlib

import torch
from torch import Tensor, nn

from heads.model.backbones import split_stages
from heads.model.head import Head, normalise


class FrozenLayers(nn.Module):
    """The frozen part of a head: pixels [N, 3, H, W] as `Head` takes them, to features.

    Features are the backbone's own [N, F] where it is frozen as a whole, else the maps [N, C, h, w] of the last
    frozen stage. Batch norm stays in eval mode, as it does in a head that was frozen.

    Args:
        head: whose modules are taken.
        up_to: the last frozen stage, or all (`heads.model.backbones.split_stages`).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, head: Head, up_to: str) -> None:
        super().__init__()
        before, after = split_stages(up_to)
        self.layers = nn.ModuleDict({name: head.backbone.get_submodule(name) for name in before})
        self.ends_in_maps = bool(after)
        self.register_buffer("mean", head.mean)
        self.register_buffer("std", head.std)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        features = normalise(pixels, self.mean, self.std)
        for layer in self.layers.values():
            features = layer(features)
        return features if self.ends_in_maps else features.flatten(1)

    def checksum(self) -> str:
        """SHA-256 of all tensors by name: equal where the same pixels make the same features."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            values = tensor.detach().cpu().contiguous().numpy()
            digest.update(f"{name} {values.dtype} {values.shape} ".encode() + values.tobytes())
        return digest.hexdigest()


class TrainedLayers(nn.Module):
    """The rest of a head: features of its `FrozenLayers`, in any precision, to logits [N, outputs].

    Its tensors are all of the head's, the frozen ones too, under the head's names: its state is a head's.

    Args:
        head: whose modules are taken.
        up_to: the last frozen stage, or all.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, head: Head, up_to: str) -> None:
        super().__init__()
        self.backbone, self.classifier = head.backbone, head.classifier
        self.register_buffer("mean", head.mean)
        self.register_buffer("std", head.std)
        self._after = split_stages(up_to)[1]

    def forward(self, features: Tensor) -> Tensor:
        features = features.float()
        if features.ndim == 4:
            features = features.contiguous(memory_format=torch.channels_last)
        for name in self._after:
            features = self.backbone.get_submodule(name)(features)
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
