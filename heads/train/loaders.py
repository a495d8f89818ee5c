"""Readers and loaders of images, or of features that a frozen backbone computed from them.

Batches are shared out to the processes that train one head together.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, Sampler, default_collate

from data.dataset import ImageDataset, Sample, SampleIndex
from data.images.crop import CroppedReader, make_reader
from data.images.decode import Read
from data.images.pixel_cache import CachedReader, make_cached_reader, open_array, stat_files
from data.loader import Loader
from data.runtime.errors import InputError
from data.transforms.pipeline import working_size
from data.transforms.registry import Step
from heads.model.head import Head
from heads.run.folder import PACKAGES
from heads.train.split import DataSplit

FEATURES_BATCH = 64  # fixed, since features' last digits depend on how many are computed at once
STRIDE = 32  # of a resnet's last stage, which has one place for images up to this size


@dataclass(frozen=True)
class ImageSource:
    """How images are read: from their files or from a cache, whole or cropped.

    Attributes:
        read: path -> pixels.
        crops: crops images to face boxes; None: they stay whole.
        cache: folder of decoded images and features; None: no cache.
        limit: bytes that the cache may take.
    """

    read: Read
    crops: CroppedReader | None = None
    cache: Path | None = None
    limit: int = 0


def open_images(
    split: DataSplit,
    steps: tuple[Sequence[Step], Sequence[Step]],
    boxes: Path | None,
    box_margin: float,
    cache: Path | None,
    limit: int,
    accelerator: Accelerator,
) -> ImageSource:
    """Open the images of a split; make their cache if it is missing, also of images without this head's label.

    Args:
        steps: pixel steps of training and evaluation, which must have one working size for a cache.
        boxes, box_margin: CSV file of face boxes to crop to, and their margin (`data.images.crop.make_reader`).
        cache, limit: folder of the cache, and bytes that it may take.
    """
    read = make_reader(boxes, box_margin)
    crops = read if isinstance(read, CroppedReader) else None
    if crops is not None:
        accelerator.print(crops.summary([*split.train["path"], *split.valid["path"]]))
    if cache is None:
        return ImageSource(read, crops)
    size = working_size(*steps)
    if size is None:
        raise InputError(
            "--cache: pixels.train and pixels.evaluate do not both letterbox to one size before any crop, "
            "expected that; change the YAML or leave --cache out"
        )
    mark = "" if crops is None else crops.digest
    with accelerator.main_process_first():  # one process makes the cache, the others find it
        read = make_cached_reader(cache, split.images, size, limit, read=read, mark=mark)
    return ImageSource(read, crops, cache, limit)


class ProcessBatches(Sampler[list[SampleIndex]]):
    """The batches of one process among several: its share of each batch, or whole batches in turn.

    Every process draws the same list of rows, so that the images of each step are those of one process, whatever
    the sampler. A share may be empty.

    >>> rows = [(0, row, 0) for row in (5, 6, 7, 8)]
    >>> list(ProcessBatches(rows, 3, 0, 2)), list(ProcessBatches(rows, 3, 1, 2))
    ([[(0, 5, 0), (0, 7, 0)], [(0, 8, 0)]], [[(0, 6, 0)], []])
    >>> list(ProcessBatches(rows, 3, 0, 2, whole=True)), list(ProcessBatches(rows, 3, 1, 2, whole=True))
    ([[(0, 5, 0), (0, 6, 0), (0, 7, 0)]], [[(0, 8, 0)]])

    Args:
        sampler: indices of `data.dataset.ImageDataset` in an epoch.
        batch_size: of all processes together.
        whole: for validation, since an image's last digits depend on the size of its batch.
        drop_small: for training, leave out a last batch that `is_small`.
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        process: int = 0,
        processes: int = 1,
        whole: bool = False,
        drop_small: bool = False,
    ) -> None:
        drop_last = drop_small and is_small(len(sampler), batch_size)
        self.batches: Any = BatchSampler(sampler, batch_size, drop_last=drop_last)
        self.batch_size, self.process, self.processes, self.whole = batch_size, process, processes, whole

    def __len__(self) -> int:
        count = len(self.batches)
        return len(range(self.process, count, self.processes)) if self.whole else count

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        if self.whole:
            return islice(self.batches, self.process, None, self.processes)
        return (batch[self.process :: self.processes] for batch in self.batches)


def is_small(rows: int, batch_size: int) -> bool:
    """Whether the last batch of `rows` rows has less than half of `batch_size`, and is not the only one.

    Just before validation, such a batch would move the running statistics of batch norm by a tenth of the way to
    those of a few images (docs/ablations.md).
    """
    return rows > batch_size and 0 < 2 * (rows % batch_size) < batch_size


def make_loader(images: Dataset[Sample], batches: ProcessBatches, workers: int, seed: int) -> Loader:
    """Make a loader of `images` in the given batches; `seed` is that of its worker processes."""
    return Loader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(_collate, images),
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),  # else starting an epoch draws from dropout's generator
    )


def _collate(images: Dataset[Sample], samples: list[Sample]) -> Sample:
    """Stack samples; for none make tensors [0, ...], so that all processes take every step."""
    if samples:
        return Sample(*default_collate(samples))
    one = default_collate([images[(0, 0, 0)]])
    return Sample(tuple(pixels[:0] for pixels in one.pixels), one.target[:0], [])


def check_batch_size(size: Sequence[int], rows: int, batch_size: int, processes: int) -> None:
    """Refuse batches in which batch norm has a single value per channel, on which it cannot train.

    Args:
        size: height and width of the images.
        rows: images per epoch.
        batch_size: of all processes together.
    """
    last = batch_size if is_small(rows, batch_size) else rows % batch_size or batch_size
    if max(size) <= STRIDE and last < 2 * processes:
        raise InputError(
            f"training.batch_size={batch_size}: the last of {rows} images per epoch make a batch of {last} for "
            f"{processes} process{'es' * (processes > 1)}; batch norm needs at least 2 images of "
            f"{size[0]}x{size[1]} in each; expected another batch size, or images larger than {STRIDE}x{STRIDE}"
        )


class FeatureDataset(Dataset[Sample]):
    """Features of a frozen backbone as samples, indexed like `data.dataset.ImageDataset`.

    Augmentation is drawn for a number of views of each image; epoch e uses view e mod that number, and the next ones
    for images that it draws again. So with as many views as epochs, training equals that on images, apart from images
    drawn again.

    Args:
        file: an .npy file [views, N, F].
        targets: [N, ...].
    """

    def __init__(self, file: Path, targets: Tensor) -> None:
        self.features, self.targets = np.load(file, mmap_mode="r"), targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: SampleIndex) -> Sample:
        epoch, row, repeat = index
        features = np.array(self.features[(epoch + repeat) % len(self.features), row])
        return Sample((torch.from_numpy(features),), self.targets[row], "")


def make_features(
    head: Head,
    images: ImageDataset,
    steps: Sequence[Step],
    views: int,
    mixed: bool,
    source: ImageSource,
    workers: int,
    accelerator: Accelerator,
) -> FeatureDataset:
    """Find the features [views, N, F] float32 of `images` in the cache, or compute them.

    Args:
        head: on its device, its backbone frozen.
        steps: of the images' pipeline.
        views: of each image, those of the epochs 0 to `views` - 1.
        mixed: compute in the accelerator's precision, not in single precision.

    Raises:
        InputError: there is no cache, its limit is exceeded, or images are missing or cannot be decoded.
    """
    if source.cache is None:
        raise InputError("training.feature_views: needs --cache DIR for the features")
    precision = accelerator.mixed_precision if mixed else "no"
    compute = partial(_compute, head, accelerator, precision)
    shape = (views, len(images), compute(images[(0, 0, 0)].pixels[0][None]).shape[1])
    # Everything that the features depend on. The names of the pixel caches depend on their images, crops and size.
    files = source.read.files if isinstance(source.read, CachedReader) else []
    key = [images.seed, shape, stat_files(images.paths), steps, sorted(file.name for file in files)]
    machine = [precision, accelerator.device.type, torch.get_num_threads(), *map(version, PACKAGES)]
    text = json.dumps([*key, *machine, head.features_checksum()])
    name = f"features-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}"
    what = f"{views} views of {len(images)} images as features"

    def fill(file: Path) -> None:
        started = time.perf_counter()
        features = np.load(file, mmap_mode="r+")
        print(f"features: computing {what} once, {features.nbytes / 1e9:.2f} GB in {file.parent}", flush=True)
        batches = ProcessBatches([(view, row, 0) for view, row in np.ndindex(shape[:2])], FEATURES_BATCH)
        for index, batch in enumerate(make_loader(images, batches, workers, images.seed)):
            computed, start = compute(batch.pixels[0]), index * FEATURES_BATCH
            features.reshape(-1, shape[2])[start : start + len(computed)] = computed
        features.flush()
        print(f"features: made in {time.perf_counter() - started:.1f} s", flush=True)

    with accelerator.main_process_first():  # one process computes, the others find the file
        file = open_array(source.cache, name, shape, np.float32, source.limit, fill, what)
    return FeatureDataset(file, images.targets)


def _compute(head: Head, accelerator: Accelerator, precision: str, pixels: Tensor) -> npt.NDArray[np.float32]:
    with torch.inference_mode(), nullcontext() if precision == "no" else accelerator.autocast():
        features: npt.NDArray[np.float32] = head.features(pixels.to(accelerator.device)).float().cpu().numpy()
    return features
