"""Images of a batch mixed in pairs, their targets with them.

The methods: mixup (Zhang et al. 2018, arXiv:1710.09412) blends two images, cutmix (Yun et al. 2019,
arXiv:1905.04899) lays a rectangle of one over the other, and halves joins the left half of one aligned face
with the right half of another, each on its own side, so that what comes out is a face again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Share = float
Method = Callable[[Tensor, Tensor, float, np.random.Generator], tuple[Tensor, Share]]


def mixup(first: Tensor, second: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Share]:
    """Blend two images [3, H, W] by a share from Beta(alpha, alpha); return it with the first's share."""
    share = float(rng.beta(alpha, alpha))
    return first * share + second * (1 - share), share


def cutmix(first: Tensor, second: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Share]:
    """Lay a rectangle of `second` over `first`, its area from Beta(alpha, alpha); the share is the area's."""
    height, width = first.shape[1:]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    y, x = rng.integers(height), rng.integers(width)
    top, bottom = (int(np.clip(y + sign * side * height / 2, 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(x + sign * side * width / 2, 0, width)) for sign in (-1, 1))
    mixed = first.clone()
    mixed[:, top:bottom, left:right] = second[:, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def halves(first: Tensor, second: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Share]:  # noqa: ARG001
    """Give `first` the left or the right half of `second`, on the same side; both count half."""
    middle = first.shape[2] // 2
    side = slice(None, middle) if rng.random() < 0.5 else slice(middle, None)
    mixed = first.clone()
    mixed[:, :, side] = second[:, :, side]
    return mixed, 0.5


METHODS: dict[str, Method] = {"mixup": mixup, "cutmix": cutmix, "halves": halves}


@dataclass(frozen=True)
class Mixing:
    """Mixes a share of each batch's images with partners from the batch.

    Attributes:
        method: a key of `METHODS`.
        p: share of the images that are mixed.
        alpha: of the Beta distribution that mixup and cutmix draw from.
        rare: class index of the images that partners are taken from, where the batch holds some; None
            takes them from the whole batch.
        pool: class index of each output, [outputs], int64 (`Target.pool`).
    """

    method: str
    p: float
    alpha: float
    rare: int | None
    pool: Tensor

    def __call__(self, pixels: Tensor, targets: Tensor, entropy: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mix pixels [N, 3, H, W] (uint8, or float in 0..1) and targets (int64 [N], or float [N, outputs]).

        The same entropy (numbers >= 0) gives the same result. Targets come back as distributions
        [N, outputs]; mixup's pixels as float in 0..1, since it makes values between the whole ones.
        """
        rng = np.random.default_rng(list(entropy))
        shown = pixels.float() / 255 if self.method == "mixup" and pixels.dtype == torch.uint8 else pixels
        soft = targets if targets.ndim == 2 else torch.nn.functional.one_hot(targets, len(self.pool)).float()
        partners = self._partners(soft, rng)
        mixed, mixed_soft = shown.clone(), soft.clone()
        for row in np.flatnonzero(rng.random(len(pixels)) < self.p):
            other = int(rng.choice(partners))
            mixed[row], share = METHODS[self.method](shown[row], shown[other], self.alpha, rng)
            mixed_soft[row] = share * soft[row] + (1 - share) * soft[other]
        return mixed, mixed_soft

    def _partners(self, soft: Tensor, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if self.rare is not None:
            mass = soft.cpu()[:, self.pool == self.rare].sum(dim=1)
            found = np.flatnonzero(mass.numpy() > 0.5)
            if len(found):
                return found
        return rng.permutation(len(soft))
