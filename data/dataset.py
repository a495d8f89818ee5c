"""Images as samples: decode a file once, run it through one or more pipelines."""

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
    """One image, or a batch of them after PyTorch's default collate.

    Attributes:
        pixels: uint8 [3, H, W] for each pipeline; in a batch [B, 3, H, W] each.
        target: the row of the dataset's targets; zero without targets.
        error: why the image cannot be decoded, else empty; in a batch a sequence of B.
    """

    pixels: Sequence[Tensor]
    target: Tensor
    error: str | Sequence[str]


class ImageDataset(Dataset[Sample]):
    """Images as uint8 pixels [3, H, W] for each of several pipelines.

    Augmentation depends on the seed and the index only, so it is the same in any worker, and a run can resume
    at any epoch.

    Args:
        paths: [N].
        pipelines: applied to each decoded image; each must end in one size for all images.
        targets: [N, ...], in the same order.
        seed: from 0.
        read: path -> RGB uint8 [H, W, 3].
        skip_bad: return black pixels and the error for an image that cannot be decoded, instead of raising
            `InputError`.
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
        self.targets = torch.zeros(()).expand(len(paths)) if targets is None else targets
        self.pipelines = list(pipelines)
        self.seed = seed
        self.read = read
        self.skip_bad = skip_bad

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def paths(self) -> list[str]:
        """The images' paths [N], as given."""
        return [os.fsdecode(path) for path in self._paths.tolist()]

    def __getitem__(self, index: SampleIndex) -> Sample:
        epoch, row, repeat = index
        error = ""
        try:
            image = self.read(Path(os.fsdecode(bytes(self._paths[row]))))
        except InputError as reason:
            if not self.skip_bad:
                raise
            error, image = str(reason), BLACK
        pixels = apply_pipelines(self.pipelines, image, (self.seed, epoch, row, repeat))
        return Sample(pixels, self.targets[row], error)


class SequentialIndices(Sampler[SampleIndex]):
    """Index each of so many rows once, in order, as epoch 0: the sampler of validation and inference.

    >>> list(SequentialIndices(2))
    [(0, 0, 0), (0, 1, 0)]
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[SampleIndex]:
        return ((0, row, 0) for row in range(self.rows))


def apply_pipelines(pipelines: Sequence[Pipeline], image: Pixels, entropy: Sequence[int]) -> tuple[Tensor, ...]:
    """Transform an image [H, W, 3] into uint8 [3, H, W] by each pipeline; equal entropy gives equal pixels."""
    results = (pipeline(image, entropy) for pipeline in pipelines)
    return tuple(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) for pixels in results)


def make_scaled_reader(pipelines: Sequence[Pipeline]) -> Read:
    """Make a reader that decodes a JPEG at the smallest scale that still covers what the pipelines need."""
    return partial(decode, least=least_size(pipelines))
