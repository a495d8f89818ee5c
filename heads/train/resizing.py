"""Training on small images first and on whole ones at the end: as many epochs for fewer operations.

Progressive resizing, as in EfficientNetV2 (Tan & Le 2021, arXiv:2104.00298) without its growing augmentation.
The last epoch at least sees images of the size that is judged, since a network answers best at the size that
it was trained on (Touvron et al. 2019, arXiv:1906.06423).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MULTIPLE = 8  # of pixels that sides are rounded to
# Above 32, the stride of a resnet's last stage: of 32x32 it would see one place, and batch norm cannot train on
# the one value that this makes of a channel where a batch is a single image.
SHORTEST = 40


@dataclass(frozen=True)
class Resizing:
    """Shrinks training images, less from epoch to epoch.

    Attributes:
        least: share of height and width that the first of several epochs shows, above 0 to 1.
        until: share of the epochs after which images are whole, above 0 to 1; between, shares grow evenly.
            The last epoch's are whole in any case, so that a single epoch's do not shrink.
        epochs: of the whole training.
    """

    least: float
    until: float
    epochs: int

    def share(self, epoch: int) -> float:
        """Share of height and width in an epoch, from 0.

        >>> [Resizing(0.5, 0.75, 4).share(epoch) for epoch in range(4)]
        [0.5, 0.6666666666666666, 0.8333333333333333, 1.0]
        """
        growing = min(self.until * self.epochs, self.epochs - 1)
        return 1.0 if epoch >= growing else self.least + (1 - self.least) * (epoch / growing)

    def __call__(self, pixels: Tensor, epoch: int) -> Tensor:
        """Pixels [N, 3, H, W], uint8 or float in 0..1, as an epoch shows them; float where they shrink."""
        size = [_side(length, self.share(epoch)) for length in pixels.shape[-2:]]
        if size == list(pixels.shape[-2:]):
            return pixels
        shown = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return F.interpolate(shown, size, mode="bilinear", antialias=True, align_corners=False)


def _side(length: int, share: float) -> int:
    """A side of `length` pixels shrunk to about a share of it.

    >>> _side(160, 0.5), _side(120, 0.7), _side(120, 1.0), _side(60, 0.1), _side(20, 0.5)
    (80, 80, 120, 40, 20)
    """
    rounded = round(length * share / MULTIPLE) * MULTIPLE if share < 1 else length
    return min(length, max(SHORTEST, rounded))
