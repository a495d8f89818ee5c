"""Test-time augmentation: each view computed once for all heads, and ways to merge a head's probabilities of views.

Probabilities are merged and not logits, whose scale differs from image to image.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from data.transforms.views import View


class ViewCache:
    """A batch of images whose views are computed once each, for any number of heads.

    Args:
        pixels: uint8 [N, 3, H, W].
    """

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self._identity = pixels.float() / 255
        self._views: dict[str, Tensor] = {}

    def __call__(self, name: str, view: View) -> Tensor:
        """Return the batch in a view, float [N, 3, H, W] in 0..1, cached under its name (see `make_views`)."""
        if name not in self._views:
            self._views[name] = view(self._identity)
        return self._views[name]


def mean(probabilities: Tensor) -> Tensor:
    """Arithmetic mean over views: [V, N, C] -> [N, C]."""
    return probabilities.mean(dim=0)


def geometric(probabilities: Tensor) -> Tensor:
    """Geometric mean over views, normalised to rows that sum to 1: [V, N, C] -> [N, C]."""
    logs = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
    return logs.mean(dim=0).softmax(dim=1)


def vote(probabilities: Tensor) -> Tensor:
    """Share of views that predict each class: [V, N, C] -> [N, C]; a tie goes to the larger mean.

    The mean probability is added with a weight too small to outvote a view.
    """
    views, _, classes = probabilities.shape
    votes = F.one_hot(probabilities.argmax(dim=2), classes).to(probabilities.dtype).mean(dim=0)
    small = 1 / (2 * views + 2)
    return votes * (1 - small) + probabilities.mean(dim=0) * small


MERGES: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "geometric": geometric, "vote": vote}
