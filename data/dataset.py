"""Rows to (pixels, target): decoding and augmentation, one image at a time."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.images.decode import decode
from data.transforms.pipeline import Pipeline

SampleIndex = tuple[int, int, int]  # epoch, row, again: how often the epoch drew the row before, both from 0


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """ImageDataset as uint8 pixels [3, H, W] with their targets.

    It is indexed by a draw: an augmentation depends on the seed and the draw and on nothing else, so it is the
    same in whichever worker it happens, and a run can go on from any epoch.

    Args:
        paths: of the images, [N].
        targets: [N] or [N, K], in the same order.
        pipeline: steps that end in one size for all.
        seed: from 0.
        read: gives an image's pixels; decodes its file unless told otherwise.
    """

    def __init__(
        self,
        paths: Sequence[str],
        targets: Tensor,
        pipeline: Pipeline,
        seed: int = 0,
        read: Callable[[Path], npt.NDArray[np.uint8]] = decode,
    ) -> None:
        if len(paths) != len(targets):
            raise ValueError(f"{len(paths)} paths and {len(targets)} targets")
        self.paths = np.array(paths, dtype=np.str_)  # one block, which forked workers share without copying
        self.targets = targets
        self.pipeline = pipeline
        self.seed = seed
        self.read = read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: SampleIndex) -> tuple[Tensor, Tensor]:
        epoch, row, again = draw
        pixels = self.pipeline(self.read(Path(self.paths[row])), (self.seed, epoch, row, again))
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), self.targets[row]


def sequential_indices(rows: int) -> list[SampleIndex]:
    """The sampler of an evaluation: each row once, in order, as draws of epoch 0."""
    return [(0, row, 0) for row in range(rows)]
