"""What the frozen part of a head makes of each image and view, computed once and kept in a file.

Augmentation is drawn for a number of views of each image, once; epoch e shows view e mod that number, and
the next ones where it draws an image again. So as many views as epochs train as without a file, image
by image, but for those drawn again.
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.dataset import ImageDataset, Sample, SampleIndex
from data.images.array_cache import array_bytes, open_array
from data.images.pixel_cache import stat_files
from data.runtime.errors import InputError
from heads.model.frozen_split import FrozenLayers

FORMAT = 1
Batches = Callable[[ImageDataset, Sequence[SampleIndex]], Iterable[Sample]]


class FeatureDataset(Dataset[Sample]):
    """Kept features with their targets, indexed by draws as `ImageDataset` are.

    Args:
        file: an .npy file [views, N, ...] of `cached_features`.
        targets: [N] or [N, K].
    """

    def __init__(self, file: Path, targets: Tensor) -> None:
        self.file, self.targets = file, targets

    @cached_property
    def _features(self) -> npt.NDArray[np.floating]:
        # Mapped where it is first read: each loader worker maps the file itself, and the pages are shared.
        return np.load(self.file, mmap_mode="r")  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_features"}

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, draw: SampleIndex) -> Sample:
        epoch, row, again = draw
        kept = self._features[(epoch + again) % len(self._features), row]
        return Sample((torch.from_numpy(np.array(kept)),), self.targets[row], "")


def cached_features(
    folder: Path,
    prefix: FrozenLayers,
    images: ImageDataset,
    views: int,
    batches: Batches,
    marks: Sequence[Any],
    limit: int,
    in_use: Collection[Path] = (),
) -> Path:
    """Find the features [views, N, ...] of all `images` in `folder`, or compute them.

    Those of a wholly frozen backbone are kept as float32, maps, which are a hundred times as large, as float16.

    Args:
        folder: as that of `data.images.pixel_cache.open_cache`, which it may be.
        prefix: on its device; autocast, where wanted, is the caller's.
        images: their targets are not read.
        views: of each image, from 1: those of the epochs 0 to `views` - 1.
        batches: gives the samples of draws, in their order, always with the same number at once: a
            image's last digits depend on how many others it is computed with.
        marks: all else that features depend on, ready for JSON: steps, crops, precision, versions.
        limit: bytes that all files of the folder may take.
        in_use: files of the folder that this run reads, which are not removed.

    Raises:
        InputError: the file would be larger than `limit`, an image is missing or cannot be decoded, or a
            feature lies beyond what float16 holds.
    """
    one = _compute(prefix, images[(0, 0, 0)].pixels[0][None])
    shape = (views, len(images), *one.shape[1:])
    key = [FORMAT, prefix.checksum(), images.seed, list(shape), one.dtype.name, torch.get_num_threads()]
    text = json.dumps([*key, stat_files(images.paths), *marks])
    name = f"features-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}"
    what = f"{views} views of {len(images)} images as features"
    fill = partial(_fill, prefix, images, views, batches, what)
    return open_array(folder, name, shape, one.dtype, limit, fill, what, in_use)


def _fill(
    prefix: FrozenLayers, images: ImageDataset, views: int, batches: Batches, what: str, file: Path
) -> None:
    started = time.perf_counter()
    features = np.load(file, mmap_mode="r+")
    size = array_bytes(features.shape, features.dtype) / 1e9
    print(f"features: computing {what} once, {size:.2f} GB in {file.parent}", flush=True)
    rows = features.reshape(-1, *features.shape[2:])
    draws = [(view, row, 0) for view in range(views) for row in range(len(images))]
    place = 0
    for batch in batches(images, draws):
        pixels = batch.pixels[0]
        rows[place : place + len(pixels)] = _compute(prefix, pixels)
        place += len(pixels)
    features.flush()
    print(f"features: made in {time.perf_counter() - started:.1f} s", flush=True)


def _compute(prefix: FrozenLayers, pixels: Tensor) -> npt.NDArray[np.floating]:
    """FeatureDataset of a batch as they are kept."""
    with torch.inference_mode():
        features = prefix(pixels.to(prefix.mean.device))
    kept = features.to(torch.float16 if prefix.ends_in_maps else torch.float32)
    if not torch.isfinite(kept).all():
        raise InputError(
            "training.feature_views: the frozen part makes features beyond 65504, expected smaller ones, which "
            "float16 holds; train without feature_views"
        )
    array: npt.NDArray[np.floating] = kept.cpu().numpy()
    return array
