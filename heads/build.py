"""Build objects from a config: split, training data, optimiser, loss and recorder; `heads.load` builds heads.

Only these two modules and the scripts know configs; everything else takes plain arguments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from data.annotations.folds import balanced_weights, store_folds
from data.annotations.table import number_people
from data.dataset import ImageDataset, Sample, SequentialIndices
from data.runtime.errors import InputError, raise_all
from data.runtime.processes import usable_workers
from data.transforms.pipeline import Pipeline
from heads.config import task as schema
from heads.config.loader import load_config, read_stored_config
from heads.config.loss import Loss
from heads.config.task import Label
from heads.load import build_head, build_target
from heads.model.head import Head, load_tensors_into
from heads.model.weights import apply_weights_metadata, fill_backbone, load_imagenet, read_tensors
from heads.objective.losses import TaughtLoss, WeightedSum, make_loss
from heads.objective.targets import Target
from heads.run.checkpoint import find_description
from heads.run.folder import RunFolder, find_source_run, folds_file
from heads.run.leakage import TrainingPeople, find_training_people, leakage_warning, teacher_warning
from heads.train.distributed import local_processes, prepare, synchronise_batch_norm
from heads.train.loaders import ImageSource, ProcessBatches, check_batch_size, make_features, make_loader
from heads.train.loop import FitSettings, Mixing, TrainingData
from heads.train.mixing import mix_halves
from heads.train.optimiser import make_average, make_optimiser, make_schedule
from heads.train.recorder import RunRecorder, fingerprint_data
from heads.train.sampler import BalancedSampler
from heads.train.split import DataSplit, load_split
from heads.train.state import TrainState
from heads.train.teacher import Teacher, ask_heads, average_person, find_teacher_heads, read_embeddings, read_teacher
from heads.train.trackers import check_trackers


def load_task_config(task: str, path: Path | None, overrides: Sequence[str] = ()) -> schema.TaskConfig:
    """Load the YAML of a task and check it.

    Args:
        path: the file, or the folder of `task`.yaml; None: configs/`task`.yaml.
        overrides: `key.sub=value` each.

    Raises:
        InputError: the config is wrong, of another task, or has settings without effect.
    """
    path = path or Path("configs")
    if path.is_dir():
        path /= f"{task}.yaml"
    config = load_config(schema.TaskConfig, path, overrides)
    if config.task != task:
        raise InputError(f"{path}: task is {config.task!r}, expected {task!r} as in --task")
    raise_all(f"{path}: settings without effect", schema.find_unused_settings(config))
    check_trackers(config.training.trackers)
    return apply_weights_metadata(config, str(path))


def build_split(
    config: schema.TaskConfig, sources: Sequence[Path], runs: Path | None = None, skip_bad: bool = False
) -> DataSplit:
    """Read the sources and split their images, people of `runs` as before; see `heads.train.split.load_split`."""
    s, target = config.split, build_target(config.label)
    corrections = None if config.corrections is None else Path(config.corrections)
    file = None if runs is None else folds_file(runs, s.folds, s.seed)
    distilled = config.loss.teaching is not None and config.loss.teaching.name == "distillation"
    return load_split(sources, target, s.folds, s.fold, s.strata, s.seed, file, corrections, skip_bad, distilled)


def add_teacher(
    config: schema.TaskConfig,
    split: DataSplit,
    runs: Path,
    run: RunFolder,
    boxes: Path | None,
    accelerator: Accelerator,
) -> tuple[DataSplit, Teacher | None]:
    """Add a teacher's probabilities or embeddings to the targets of the training set; print how many images have none.

    `runs` tells where to find a teacher of run:NAME, `boxes` is the file of face boxes for teachers that were trained
    with one; the answers of runs are stored in the folder of `run`.
    """
    t, term = config.teacher, config.loss.teaching
    if t is None or term is None:
        return split, None
    if t.file is not None and term.name == "embedding":
        teacher = read_embeddings(Path(t.file), split.train)
    elif t.file is not None:
        teacher = read_teacher(Path(t.file), split.train, split.target, split.labels >= 0)
    else:
        files, workers = find_teacher_heads(t.runs, runs), usable_workers(config.training.workers, local_processes())
        teacher = ask_heads(
            files, split.train, split.target, run.teacher, t.allow_training_people, boxes, workers, accelerator
        )
    answers = teacher.answers
    if t.look_at is not None:
        answers = average_person(answers, split.train, t.look_at.column, t.look_at.value)
    split = split.add_embeddings(answers) if term.name == "embedding" else split.add_teacher(teacher.names, answers)
    without = int((split.targets[:, split.target.outputs :] == 0).all(dim=1).sum())
    if without == len(split.train):
        raise InputError(
            "teacher: no training image has one, expected heads that were not trained on these people (as of other "
            "folds), or teacher.allow_training_people=true; in a file, rows that are not empty"
        )
    accelerator.print(f"teacher: {len(split.train)} training images, {without} of them without a teacher")
    return split, teacher


def store_split(config: schema.TaskConfig, runs: Path, split: DataSplit) -> None:
    """Store everybody's fold for the next heads of `runs`, as soon as nothing can be wrong any more."""
    folds, seed = config.split.folds, config.split.seed
    store_folds(folds_file(runs, folds, seed), folds, split.fold_of)


def init_head(
    config: schema.TaskConfig, runs: Path, fold: int | None, accelerator: Accelerator, embedded: int = 0
) -> Head:
    """Build a head on the accelerator's device and load its backbone; print where that is from.

    `runs` and `fold` tell where to find a backbone of run:NAME, `embedded` is the size of a teacher's embeddings.

    Raises:
        InputError: see `load_backbone_weights`.
    """
    outputs = describe_outputs(config.label, config.classifier.factored)
    torch.manual_seed(config.training.seed)
    head = build_head(config, embedded)
    synchronise_batch_norm(head, accelerator)
    run = find_source_run(config.backbone.weights, runs, fold)
    report = load_backbone_weights(head, config.backbone, run, outputs)
    accelerator.print(f"backbone from {report}", flush=True)
    return head.to(accelerator.device)


def find_leakage(
    config: schema.TaskConfig, runs: Path, fold: int | None, split: DataSplit, teacher: Teacher | None = None
) -> tuple[TrainingPeople, str]:
    """Find the people whom the head, its backbone and teacher are trained on; warn of those it is validated on."""
    weights = config.backbone.weights
    run = find_source_run(weights, runs, fold)
    people, warning = TrainingPeople(), ""
    if weights not in ("random", "imagenet"):
        checkpoint = Path(weights) if run is None else run.best
        people = find_training_people(checkpoint)
        warning = leakage_warning(checkpoint, people, split.valid)
    if teacher is not None and config.teacher is not None:
        people |= teacher.people
        name = config.teacher.file or ", ".join(config.teacher.runs)
        warning += teacher_warning(f"teacher {name}", teacher.people, split.valid)
    return people.after_training(split.train["person"].unique()), warning


def describe_outputs(label: Label, factored: bool) -> dict[str, Any]:
    """Describe the meaning of a head's outputs by the config's keys, to compare two heads.

    Outputs that are numbers mean the same for any classes that the borders cut.
    """
    d = label.distribution
    return {
        "label.distribution": None if d is None else f"{d.low} to {d.high}",
        "label.classes": label.classes if d is None else None,
        "label.ordinal": label.ordinal,
        "label.parts": [part.classes for part in label.parts] if factored else None,
        "classifier.factored": factored,
    }


def load_backbone_weights(
    head: Head, backbone: schema.Backbone, run: RunFolder | None = None, outputs: Mapping[str, Any] | None = None
) -> str:
    """Load the weights of the head's backbone and freeze it; return a report for the user.

    Args:
        head: changed in place.
        backbone: `weights` is imagenet, random, run:NAME or a file.
        run: that run:NAME refers to.
        outputs: of the head (`describe_outputs`), compared with the file's for `with_classifier`; None: not compared.

    Raises:
        InputError: the file is missing or does not fit, its pixels are scaled differently, or the outputs of its
            classifier have another meaning.
    """
    if backbone.weights == "random":
        report = "random weights"
    elif backbone.weights == "imagenet":
        report = f"imagenet: {load_imagenet(head.backbone, backbone.name)}"
    else:
        path = Path(backbone.weights) if run is None else run.best
        _check_origin(path, head, outputs if backbone.with_classifier else None)
        tensors = read_tensors(path)
        loaded = fill_backbone(head.backbone, tensors, str(path))
        if backbone.with_classifier:
            prefix = "classifier."
            classifier = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            if not classifier:
                raise InputError(
                    f"{path}: has no classifier, expected a head's file as backbone.with_classifier is true; "
                    "choose one, or set that to false"
                )
            load_tensors_into(head.classifier, classifier, f"{path} ({prefix[:-1]})")
            loaded = replace(loaded, unused=tuple(key for key in loaded.unused if not key.startswith(prefix)))
        report = f"{path}: {loaded}" + ("; with its classifier" if backbone.with_classifier else "")
    head.freeze(backbone.freeze)
    return f"{report}; frozen: {backbone.freeze}"


def _check_origin(path: Path, head: Head, outputs: Mapping[str, Any] | None) -> None:
    """Refuse a head's file that was trained on other normalisation or, with `outputs`, has other outputs.

    A file without a config is accepted.
    """
    config = (find_description(path) or {}).get("config")
    if not isinstance(config, dict):
        return
    stored = read_stored_config(schema.TaskConfig, config, str(path))
    problems = [
        f"pixels.{key}: found {found.flatten().tolist()}, expected {expected}; its pixels were scaled so"
        for key, expected, found in (("mean", stored.pixels.mean, head.mean), ("std", stored.pixels.std, head.std))
        if not torch.equal(torch.tensor(expected), found.flatten())
    ]
    origin = describe_outputs(stored.label, stored.classifier.factored)
    problems += [
        f"{key}: found {value}, expected {origin[key]} as in its classifier; or set backbone.with_classifier=false"
        for key, value in (outputs or {}).items()
        if origin[key] != value
    ]
    raise_all(f"{path}: its weights were trained with other settings than this head's", problems)


def build_training_data(
    config: schema.TaskConfig, split: DataSplit, head: Head, source: ImageSource, accelerator: Accelerator
) -> TrainingData:
    """Build one process's loaders of images, or of features if `training.feature_views` is set.

    Raises:
        InputError: a batch is too small for batch norm, or features are asked for without a cache.
    """
    t, steps = config.training, (config.pixels.train, config.pixels.evaluate)
    train_paths, valid_paths = split.train["path"].tolist(), split.valid["path"].tolist()
    train_images = ImageDataset(train_paths, [Pipeline(steps[0])], split.targets, t.seed, source.read)
    valid_images = ImageDataset(valid_paths, [Pipeline(steps[1])], read=source.read)
    valid_rows, workers = SequentialIndices(len(valid_paths)), usable_workers(t.workers, local_processes())
    people = number_people(split.train)
    sampler = BalancedSampler(split.labels, people, config.sampler.power, config.sampler.per_person, t.seed)
    process, processes = accelerator.process_index, accelerator.num_processes
    train_set: Dataset[Sample] = train_images
    valid_set: Dataset[Sample] = valid_images
    if t.feature_views is not None:
        make = partial(make_features, head, source=source, workers=workers, accelerator=accelerator)
        train_set = make(train_images, steps[0], t.feature_views, mixed=True)
        valid_set = make(valid_images, steps[1], 1, mixed=False)
        workers = 0  # reading features is faster than passing them between processes
    elif config.backbone.freeze not in ("layer4", "all"):
        size = train_images[next(iter(sampler))].pixels[0].shape[-2:]
        check_batch_size(size, len(sampler), t.batch_size, processes)
    train_batches = ProcessBatches(sampler, t.batch_size, process, processes, drop_small=True)
    valid_batches = ProcessBatches(valid_rows, t.batch_size, process, processes, whole=True)
    return TrainingData(
        split.target,
        make_loader(train_set, train_batches, workers, t.seed),
        make_loader(valid_set, valid_batches, workers, t.seed),
        sampler,
        split.valid_labels,
        split.valid_values,
        build_mixing(t.mix, split.counts, split.target, len(split.teacher_names)),
    )


def build_mixing(
    mix: schema.Mix | None, counts: npt.NDArray[np.int64], target: Target, teacher_outputs: int = 0
) -> Mixing | None:
    """Build the mixing of training batches; `counts` [C] of the training set decide which class is the rarest.

    Targets may end with `teacher_outputs` probabilities of a teacher, which are mixed alike.
    """
    if mix is None:
        return None
    rare_class = int(counts.argmin()) if mix.rarest else None
    if isinstance(mix.rarest, str):
        rare_class = target.classes.index(mix.rarest)
    pool = torch.cat([target.pool, torch.full((teacher_outputs,), -1)])
    return partial(mix_halves, p=mix.p, rare_class=rare_class, pool=pool)


def build_train_state(
    config: schema.TaskConfig, head: Head, steps_per_epoch: int, accelerator: Accelerator
) -> TrainState:
    """Build optimiser, schedule and, if asked for, the moving average of the weights of `head`."""
    o, s = config.optimiser, config.schedule
    classifier = nn.ModuleList([head.classifier] if head.projection is None else [head.classifier, head.projection])
    optimiser = make_optimiser(
        head.backbone, classifier, o.name, o.lr, o.trunk_lr, o.weight_decay, o.momentum, o.stage_lr, o.coral_lr
    )
    schedule = make_schedule(
        optimiser, s.name, config.training.epochs, steps_per_epoch, s.warmup, s.step_epochs, s.step_factor
    )
    average = make_average(head, config.training.ema) if config.training.ema else None
    return TrainState(*prepare(head, optimiser, accelerator), schedule, average, steps_per_epoch)


def build_settings(training: schema.Training) -> FitSettings:
    """Build the settings of the training loop."""
    t = training
    return FitSettings(t.epochs, t.select_by, t.validate_every, t.patience, t.clip_norm, t.seed)


def build_loss(loss: Loss, counts: npt.NDArray[np.int64], target: Target, mixed: bool = False) -> nn.Module:
    """Build the loss; balanced class weights are those of `counts` [C] in the training set.

    With a teacher its targets are those of `Target.join_teacher`, which `mixed` batches do not index by class.
    """
    weight: torch.Tensor | None = None
    if loss.class_weights != "none":
        listed = loss.class_weights
        values = listed if isinstance(listed, list) else balanced_weights(counts, listed.balanced)
        weight = torch.as_tensor(values, dtype=torch.float32)[target.pool]
    terms = [make_loss(t.name, t.gamma, t.label_smoothing) for t in loss.label_terms]
    labels = WeightedSum(terms, [t.factor for t in loss.label_terms], weight)
    if (t := loss.teaching) is None:
        return labels
    temperature = t.temperature if t.name == "distillation" else None
    return TaughtLoss(labels, t.factor, temperature, target.pool, target.numbers is None and not mixed)


def build_recorder(
    config: schema.TaskConfig,
    run: RunFolder,
    split: DataSplit,
    source: ImageSource,
    head: Head,
    people: TrainingPeople,
    teacher: Teacher | None = None,
) -> RunRecorder:
    """Build the recorder of a run: what it writes about its people, and what it may resume with."""
    validation = describe_validation(config, split.valid, split.valid_labels, split.valid_values)
    frozen = None if config.training.feature_views is None else head.features_checksum()
    fingerprints = fingerprint_data(split, source, frozen, None if teacher is None else teacher.checksum)
    margin = None if source.crops is None else source.crops.margin
    return RunRecorder(run, config.model_dump(), fingerprints, validation, margin, people.to_json())


def describe_validation(
    config: schema.TaskConfig,
    rows: pd.DataFrame,
    labels: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64] | None,
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of validation.npz that describe its N images: their class indices and numbers are [N]."""
    arrays = {
        "source": rows["source"].to_numpy(dtype=np.str_),
        "person": rows["person"].to_numpy(dtype=np.str_),
        "path": rows["path"].to_numpy(dtype=np.str_),
        "shot": rows["shot"].fillna("").to_numpy(dtype=np.str_),
        "column": np.array(config.label.column or ""),
        "borders": np.array(config.label.borders or [], dtype=np.float64),
        "folds": np.array(config.split.folds),
        "classes": np.array(config.label.classes),
        "truth": labels,
    }
    return arrays if values is None else arrays | {"value": values}
