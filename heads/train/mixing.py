"""Mixing of training images in pairs: one half of an aligned face with the other half of another one."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F


def mix_halves(
    pixels: Tensor, targets: Tensor, entropy: Sequence[int], p: float, rare_class: int | None, pool: Tensor
) -> tuple[Tensor, Tensor]:
    """Replace the left or right half of some images by that half of a partner in the batch.

    Both count half: targets become distributions [N, outputs].

    Args:
        pixels: [N, 3, H, W].
        targets: class indices int64 [N], or distributions [N, outputs].
        entropy: numbers from 0; equal ones give an equal result.
        p: share of the images that are mixed.
        rare_class: class of the partners if the batch has any of it; None: partners are drawn from all.
        pool: class index of each output, int64 [outputs] (`Target.pool`).
    """
    rng = np.random.default_rng(list(entropy))
    soft = targets if targets.ndim == 2 else F.one_hot(targets, len(pool)).float()
    rare = np.empty(0, dtype=np.int64)
    if rare_class is not None:
        rare = np.flatnonzero(soft.cpu()[:, pool == rare_class].sum(dim=1).numpy() > 0.5)
    partners = rare if len(rare) else rng.permutation(len(soft))
    mixed, mixed_soft, middle = pixels.clone(), soft.clone(), pixels.shape[3] // 2
    for row in np.flatnonzero(rng.random(len(pixels)) < p):
        partner = int(rng.choice(partners))
        side = slice(None, middle) if rng.random() < 0.5 else slice(middle, None)
        mixed[row, :, :, side] = pixels[partner, :, :, side]
        mixed_soft[row] = 0.5 * soft[row] + 0.5 * soft[partner]
    return mixed, mixed_soft
