"""Images as samples: each file is decoded once and run through one or more pipelines."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from data.images.decode import Pixels, Read, decode
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline, least_size

SampleIndex = tuple[int, int, int]  # epoch, row, repeat: how often the epoch drew the row before; all from 0
BLACK = np.zeros((256, 256, 3), dtype=np.uint8)


class Sample(NamedTuple):
    """One image; PyTorch's default collate joins B of them into one Sample.

    Attributes:
        pixels: uint8 [3, H, W] (batch: [B, 3, H, W]) for each pipeline.
        target: the row of the dataset's targets (batch: [B, ...]); zero without targets.
        error: why the image cannot be decoded, else empty (batch: a sequence of B).
    """

    pixels: Sequence[Tensor]
    target: Tensor
    error: str | Sequence[str]


class ImageDataset(Dataset[Sample]):
    """Images as samples for training, validation and inference.

    Augmentation depends on the seed and the index only, so it is the same in any worker, and a run can resume
    at any epoch.

    Args:
        pipelines: applied to each decoded image; each must end in one size for all images.
        targets: [N, ...], for as many paths.
        skip_bad: give black pixels and an error for an image that cannot be decoded, not an `InputError`.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        pipelines: Sequence[Pipeline],
        targets: Tensor | None = None,
        seed: int = 0,
        read: Read = decode,
        skip_bad: bool = False,
    ) -> None:
        if targets is not None and len(paths) != len(targets):
            raise ValueError(f"{len(paths)} paths and {len(targets)} targets")
        # One block of bytes, which forked workers share without copying.
        self._paths = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self.pipelines = list(pipelines)
        self.targets = torch.zeros(()).expand(len(paths)) if targets is None else targets
        self.seed, self.read, self.skip_bad = seed, read, skip_bad

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def paths(self) -> list[str]:
        """The images' paths [N]."""
        return [os.fsdecode(path) for path in self._paths.tolist()]

    def __getitem__(self, index: SampleIndex) -> Sample:
        epoch, row, repeat = index
        error = ""
        try:
            image = self.read(Path(os.fsdecode(bytes(self._paths[row]))))
        except InputError as reason:
            if not self.skip_bad:
                remedy = "train_task.py and combine.py go on without it by --on-bad-image skip"
                raise InputError(f"{reason}; {remedy}") from None
            error, image = str(reason), BLACK
        pixels = apply_pipelines(self.pipelines, image, (self.seed, epoch, row, repeat))
        return Sample(pixels, self.targets[row], error)


class SequentialIndices(Sampler[SampleIndex]):
    """Sampler of validation and inference: each of `rows` rows once, in order, as in epoch 0."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[SampleIndex]:
        return ((0, row, 0) for row in range(self.rows))


def apply_pipelines(pipelines: Sequence[Pipeline], image: Pixels, seeds: Sequence[int]) -> tuple[Tensor, ...]:
    """Transform an image [H, W, 3] into uint8 [3, H, W] by each pipeline; equal seeds give equal pixels."""
    results = (pipeline(image, seeds) for pipeline in pipelines)
    return tuple(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) for pixels in results)


def make_scaled_reader(pipelines: Sequence[Pipeline]) -> Read:
    """Make a reader that decodes JPEGs at the smallest scale that the pipelines allow."""
    return partial(decode, least=least_size(pipelines))
