"""What a head is shown: images, their kept pixels, or the features that its frozen part makes of them."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from accelerate import Accelerator

from data.annotations.table import read_table
from data.dataset import ImageDataset
from data.images.crop import CroppedReader
from data.images.pixel_cache import CachedReader, make_cached_reader
from data.runtime.errors import InputError
from data.transforms.pipeline import working_size
from heads.config.task import TaskConfig
from heads.model.frozen_split import FrozenLayers, TrainedLayers
from heads.model.head import Head
from heads.run.folder import PACKAGES
from heads.train.features import FeatureDataset, cached_features
from heads.train.loaders import make_loader

Read = Callable[[Path], npt.NDArray[np.uint8]]
FEATURE_BATCH = 64  # fixed, since features' last digits depend on how many are computed at once


def make_pixel_reader(
    config: TaskConfig, sources: list[Path], folder: Path, limit: int, read: Read, bad: Mapping[str, str] | None
) -> CachedReader:
    """What reads the copies of images that are kept in `folder` at the working size, made with `read`.

    Args:
        config: its steps for pixels give the working size.
        sources: whose images are kept, all of them, so that heads of other labels find theirs.
        folder: of all heads' copies.
        limit: bytes that it may take.
        read: gives an image's pixels.
        bad: images to leave out; None where a missing one ends the run.

    Raises:
        InputError: the steps do not begin with one size, or the copies take more than `limit`.
    """
    size = working_size(config.pixels.train, config.pixels.evaluate)
    if size is None:
        raise InputError(
            "--cache: pixels.train and pixels.evaluate do not both letterbox to one size before any crop, "
            "expected that; change the YAML or leave --cache out"
        )
    table = read_table(sources, lenient=bad is not None)
    kept = table[~table["path"].isin(bad or {})]
    mark = read.digest if isinstance(read, CroppedReader) else ""
    return make_cached_reader(folder, kept, size, limit, read=read, mark=mark)


def make_feature_sets(
    config: TaskConfig,
    folder: Path,
    limit: int,
    head: Head,
    sets: tuple[ImageDataset, ImageDataset],
    accelerator: Accelerator,
) -> tuple[TrainedLayers, FeatureDataset, FeatureDataset]:
    """What of `head` is trained, and what its frozen part makes of the sets to train and to validate on.

    Args:
        config: its freeze, steps for pixels and `training.feature_views`.
        folder, limit: of `make_pixel_reader`, which `sets` read from.
        head: on its device.
        sets: of images, to train and to validate on.
        accelerator: whose precision features to train on are computed in, those to validate on in single; one
            of its processes computes them.
    """
    t, up_to = config.training, config.backbone.freeze
    prefix, read = FrozenLayers(head, up_to), sets[0].read
    assert isinstance(read, CachedReader)
    in_use = read.files
    # The pixel caches' names stand for their images, crops and size.
    marks = [*sorted(file.name for file in in_use), accelerator.device.type, *map(version, PACKAGES)]
    kept = []
    with accelerator.main_process_first():  # one computes, the others find it there
        for images, views, steps, precision in (
            (sets[0], t.feature_views or 1, config.pixels.train, accelerator.mixed_precision),
            (sets[1], 1, config.pixels.evaluate, "no"),
        ):
            with nullcontext() if precision == "no" else accelerator.autocast():
                file = cached_features(
                    folder,
                    prefix,
                    images,
                    views,
                    lambda shown, draws: make_loader(shown, draws, FEATURE_BATCH, t.workers, t.seed),
                    [steps, precision, *marks],
                    limit,
                    in_use,
                )
            in_use.add(file)
            kept.append(FeatureDataset(file, images.targets))
    return TrainedLayers(head, up_to), kept[0], kept[1]
