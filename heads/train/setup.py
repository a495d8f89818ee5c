"""What a training begins with: the head and its trunk, what it is shown, how it learns."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.dataset import Photographs, in_order
from data.images.crop import CroppedReader, reader_of
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.build import (
    fill_trunk_of,
    head_of,
    learner_of,
    loss_of,
    meaning_of,
    mixing_of,
    resizing_of,
    target_of,
    trained_target_of,
)
from heads.config.task import TaskConfig
from heads.model.convolutions import tiles_pay, with_winograd
from heads.model.frozen_split import Prefix, Suffix
from heads.model.head import Head
from heads.run.leakage import tell_of_seen, trunk_run
from heads.train.distributed import WholeBatchLoss, synchronise_batch_norm
from heads.train.feature_cache import Read, reader_of_kept, with_kept_features
from heads.train.loaders import loader, refuse_lonely
from heads.train.loop import Material
from heads.train.resume import marks_of
from heads.train.sampler import BalancedSampler
from heads.train.sharding import deal_training, deal_validation
from heads.train.split import People
from heads.train.state import Learner
from heads.train.validation import Truth

Pairs = Dataset[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Sources:
    """Where photographs come from.

    Attributes:
        data: as `data.annotations.table.read_table` takes them.
        boxes: a CSV of face boxes that they are cropped to; None shows them whole.
        box_margin: around the boxes, of `data.images.crop.reader_of`.
        cache: folder of kept pixels and features; None keeps none.
        cache_limit: bytes that it may take.
    """

    data: list[Path]
    boxes: Path | None
    box_margin: float
    cache: Path | None
    cache_limit: int


@dataclass(frozen=True)
class Shown:
    """What a head is shown of its people.

    Attributes:
        learned: the head, on its device, or what of it is trained.
        train: batches to train on.
        valid: batches to validate on.
        sampler: which rows an epoch trains on.
        photographs: those to validate on.
        box_margin: around the boxes that photographs are cropped to; None where they are shown whole.
        marks: of `heads.train.resume.marks_of`.
    """

    learned: Head | Suffix
    train: DataLoader[tuple[Tensor, Tensor]]
    valid: DataLoader[tuple[Tensor, Tensor]]
    sampler: BalancedSampler
    photographs: Photographs
    box_margin: float | None
    marks: Mapping[str, str | None]


def begun(
    config: TaskConfig, runs: Path, fold: int | None, judges: pd.Series, accelerator: Accelerator
) -> Head:
    """The head with its trunk filled and frozen; tells what was loaded, and which of its judges it has seen.

    Args:
        config: of the head.
        runs, fold: where a trunk of the kind run:NAME stands.
        judges: the person of each row to validate on.
        accelerator: what it is trained on.

    Raises:
        InputError: as `heads.build.fill_trunk_of` does.
    """
    torch.manual_seed(config.training.seed)
    head = head_of(config)
    synchronise_batch_norm(head, accelerator)
    meaning = meaning_of(config.label, config.classifier.factored)
    told = fill_trunk_of(head, config.backbone, runs, fold, meaning)
    accelerator.print(f"trunk from {told}", flush=True)
    run = trunk_run(config.backbone.weights, runs, fold)
    if run is not None and accelerator.is_main_process:
        print(tell_of_seen(run, judges), end="", file=sys.stderr, flush=True)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "no" and tiles_pay():
        with_winograd(head.trunk)
    return head


def reader_and_crops(
    config: TaskConfig, sources: Sources, people: People, accelerator: Accelerator
) -> tuple[Read, CroppedReader | None]:
    """What gives a photograph's pixels (its file, a box in it, a kept copy), and what crops them to boxes."""
    read = reader_of(sources.boxes, sources.box_margin)
    crops = read if isinstance(read, CroppedReader) else None
    if crops is not None:
        accelerator.print(crops.told([*people.train["path"], *people.valid["path"]]))
    if sources.cache is None:
        return read, crops
    with accelerator.main_process_first():  # one writes the cache, the others find it there
        kept = reader_of_kept(config, sources.data, sources.cache, sources.cache_limit, read, people.bad)
    return kept, crops


def shown_of(
    config: TaskConfig, sources: Sources, head: Head, people: People, accelerator: Accelerator
) -> Shown:
    """What `head` is shown of its people: photographs, kept pixels, or features of its frozen part.

    Raises:
        InputError: features are asked for without a cache, or as `heads.train.feature_cache` and `data.images.crop` do.
    """
    target, trained, t = target_of(config.label), trained_target_of(config.label), config.training
    train_paths, valid_paths = people.train["path"].tolist(), people.valid["path"].tolist()
    read, crops = reader_and_crops(config, sources, people, accelerator)
    pipeline, still = Pipeline(config.pixels.train), Pipeline(config.pixels.evaluate)
    train_set = Photographs(train_paths, trained.encode(people.train), pipeline, t.seed, read)
    valid_set = Photographs(valid_paths, target.encode(people.valid), still, read=read)
    learned: Head | Suffix = head.to(accelerator.device)
    shown_train: Pairs = train_set
    shown_valid: Pairs = valid_set
    workers, frozen = t.workers, None
    if t.feature_views is not None:
        if sources.cache is None:
            raise InputError("training.feature_views: needs --cache DIR, where features are kept")
        frozen = Prefix(head, config.backbone.freeze).checksum()
        learned, shown_train, shown_valid = with_kept_features(
            config, sources.cache, sources.cache_limit, head, (train_set, valid_set), accelerator
        )
        workers = 0  # reading features takes less than handing them over
    persons = people.train["person"].tolist()
    sampler = BalancedSampler(people.labels, persons, config.sampler.power, config.sampler.per_person, t.seed)
    if t.feature_views is None and config.backbone.freeze not in ("layer4", "all"):
        pixels, _ = train_set[next(iter(sampler))]
        refuse_lonely(pixels.shape[-2:], len(sampler), t.batch_size, accelerator.num_processes)
    return Shown(
        learned,
        loader(shown_train, sampler, t.batch_size, workers, t.seed),
        loader(shown_valid, in_order(len(valid_set)), t.batch_size, workers, t.seed),
        sampler,
        valid_set,
        None if crops is None else crops.margin,
        marks_of(people.train, people.valid, target, crops, sources.cache is not None, frozen),
    )


def material_of(config: TaskConfig, people: People, shown: Shown, accelerator: Accelerator) -> Material:
    """What `heads.train.loop.fit` goes through, dealt to the processes."""
    target = target_of(config.label)
    values = target.values(people.valid).numpy() if target.numbers else None
    return Material(
        target,
        deal_training(shown.train, accelerator),
        deal_validation(shown.valid, accelerator),
        shown.sampler,
        Truth(target.class_indices(people.valid), values),
        mixing_of(config.training.mix, people.counts, trained_target_of(config.label)),
        resizing_of(config.training),
    )


def learner_and_loss(
    config: TaskConfig, people: People, shown: Shown, accelerator: Accelerator
) -> tuple[Learner, WholeBatchLoss]:
    """How the head learns, on whatever there is to compute with."""
    learner = learner_of(config, shown.learned, len(shown.train))
    learner.head, learner.optimiser = accelerator.prepare(learner.head, learner.optimiser)
    loss = loss_of(config.loss, people.counts, trained_target_of(config.label))
    return learner, WholeBatchLoss(loss.to(accelerator.device), accelerator)
