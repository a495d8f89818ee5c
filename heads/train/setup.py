"""What a training begins with: the head and its backbone, what it is shown, how it learns."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from data.dataset import ImageDataset, Sample, SequentialIndices
from data.images.crop import CroppedReader, make_reader
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.build import (
    build_head,
    build_loss,
    build_mixing,
    build_target,
    build_train_state,
    describe_outputs,
    load_backbone_weights,
)
from heads.config.task import TaskConfig
from heads.model.frozen_split import FrozenLayers, TrainedLayers
from heads.model.head import Head
from heads.run.leakage import find_source_run, leakage_warning
from heads.train.distributed import WholeBatchLoss, synchronise_batch_norm
from heads.train.feature_cache import Read, make_feature_sets, make_pixel_reader
from heads.train.loaders import check_batch_size, make_loader
from heads.train.loop import TrainingData
from heads.train.resume import fingerprint_data
from heads.train.sampler import BalancedSampler
from heads.train.sharding import shard_training, shard_validation
from heads.train.split import DataSplit
from heads.train.state import TrainState
from heads.train.validation import Labels

Samples = Dataset[Sample]


@dataclass(frozen=True)
class DataOptions:
    """Where images come from.

    Attributes:
        data: as `data.annotations.table.read_table` takes them.
        boxes: a CSV of face boxes that they are cropped to; None shows them whole.
        box_margin: around the boxes, of `data.images.crop.make_reader`.
        cache: folder of kept pixels and features; None keeps none.
        cache_limit: bytes that it may take.
    """

    data: list[Path]
    boxes: Path | None
    box_margin: float
    cache: Path | None
    cache_limit: int


@dataclass(frozen=True)
class Loaders:
    """What a head is shown of its people.

    Attributes:
        learned: the head, on its device, or what of it is trained.
        train: batches to train on.
        valid: batches to validate on.
        sampler: which rows an epoch trains on.
        images: those to validate on.
        box_margin: around the boxes that images are cropped to; None where they are shown whole.
        marks: of `heads.train.resume.fingerprint_data`.
    """

    learned: Head | TrainedLayers
    train: DataLoader[Sample]
    valid: DataLoader[Sample]
    sampler: BalancedSampler
    images: ImageDataset
    box_margin: float | None
    marks: Mapping[str, str | None]


def init_head(
    config: TaskConfig, runs: Path, fold: int | None, judges: pd.Series, accelerator: Accelerator
) -> Head:
    """The head with its backbone filled and frozen; tells what was loaded, and which of its judges it has seen.

    Args:
        config: of the head.
        runs, fold: where a backbone of the kind run:NAME stands.
        judges: the person of each row to validate on.
        accelerator: what it is trained on.

    Raises:
        InputError: as `heads.build.load_backbone_weights` does.
    """
    torch.manual_seed(config.training.seed)
    head = build_head(config)
    synchronise_batch_norm(head, accelerator)
    meaning = describe_outputs(config.label, config.classifier.factored)
    told = load_backbone_weights(head, config.backbone, runs, fold, meaning)
    accelerator.print(f"backbone from {told}", flush=True)
    run = find_source_run(config.backbone.weights, runs, fold)
    if run is not None and accelerator.is_main_process:
        print(leakage_warning(run, judges), end="", file=sys.stderr, flush=True)
    return head


def make_readers(
    config: TaskConfig, sources: DataOptions, people: DataSplit, accelerator: Accelerator
) -> tuple[Read, CroppedReader | None]:
    """What gives an image's pixels (its file, a box in it, a kept copy), and what crops them to boxes."""
    read = make_reader(sources.boxes, sources.box_margin)
    crops = read if isinstance(read, CroppedReader) else None
    if crops is not None:
        accelerator.print(crops.told([*people.train["path"], *people.valid["path"]]))
    if sources.cache is None:
        return read, crops
    with accelerator.main_process_first():  # one writes the cache, the others find it there
        kept = make_pixel_reader(config, sources.data, sources.cache, sources.cache_limit, read, people.bad)
    return kept, crops


def make_loaders(
    config: TaskConfig, sources: DataOptions, head: Head, people: DataSplit, accelerator: Accelerator
) -> Loaders:
    """What `head` is shown of its people: images, kept pixels, or features of its frozen part.

    Raises:
        InputError: features are asked for without a cache, or as `heads.train.feature_cache` and `data.images.crop` do.
    """
    target, t = build_target(config.label), config.training
    train_paths, valid_paths = people.train["path"].tolist(), people.valid["path"].tolist()
    read, crops = make_readers(config, sources, people, accelerator)
    pipeline, still = Pipeline(config.pixels.train), Pipeline(config.pixels.evaluate)
    train_set = ImageDataset(train_paths, [pipeline], target.encode(people.train), t.seed, read)
    valid_set = ImageDataset(valid_paths, [still], target.encode(people.valid), read=read)
    learned: Head | TrainedLayers = head.to(accelerator.device)
    shown_train: Samples = train_set
    shown_valid: Samples = valid_set
    workers, frozen = t.workers, None
    if t.feature_views is not None:
        if sources.cache is None:
            raise InputError("training.feature_views: needs --cache DIR, where features are kept")
        frozen = FrozenLayers(head, config.backbone.freeze).checksum()
        learned, shown_train, shown_valid = make_feature_sets(
            config, sources.cache, sources.cache_limit, head, (train_set, valid_set), accelerator
        )
        workers = 0  # reading features takes less than handing them over
    persons = people.train["person"].tolist()
    sampler = BalancedSampler(people.labels, persons, config.sampler.power, config.sampler.per_person, t.seed)
    if t.feature_views is None and config.backbone.freeze not in ("layer4", "all"):
        pixels = train_set[next(iter(sampler))].pixels[0]
        check_batch_size(pixels.shape[-2:], len(sampler), t.batch_size, accelerator.num_processes)
    return Loaders(
        learned,
        make_loader(shown_train, sampler, t.batch_size, workers, t.seed),
        make_loader(shown_valid, SequentialIndices(len(valid_set)), t.batch_size, workers, t.seed),
        sampler,
        valid_set,
        None if crops is None else crops.margin,
        fingerprint_data(people.train, people.valid, target, crops, sources.cache is not None, frozen),
    )


def make_training_data(
    config: TaskConfig, people: DataSplit, shown: Loaders, accelerator: Accelerator
) -> TrainingData:
    """What `heads.train.loop.fit` goes through, dealt to the processes."""
    target = build_target(config.label)
    values = target.values(people.valid).numpy() if target.numbers else None
    return TrainingData(
        target,
        shard_training(shown.train, accelerator),
        shard_validation(shown.valid, accelerator),
        shown.sampler,
        Labels(target.class_indices(people.valid), values),
        build_mixing(config.training.mix, people.counts, target),
    )


def make_state_and_loss(
    config: TaskConfig, people: DataSplit, shown: Loaders, accelerator: Accelerator
) -> tuple[TrainState, WholeBatchLoss]:
    """How the head learns, on whatever there is to compute with."""
    learner = build_train_state(config, shown.learned, len(shown.train))
    learner.head, learner.optimiser = accelerator.prepare(learner.head, learner.optimiser)
    loss = build_loss(config.loss, people.counts, build_target(config.label))
    return learner, WholeBatchLoss(loss.to(accelerator.device), accelerator)
