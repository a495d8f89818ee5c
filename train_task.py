"""Train one head: one YAML in, runs/<task>/ out.

python train_task.py --task age --data path/to/train
"""

import argparse
import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.crops import CroppedReader, boxes_options, reader_of
from data.errors import InputError, bad_image_option, debug_option, run_script

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from accelerate import Accelerator
    from torch import Tensor
    from torch.utils.data import Dataset

    from data.dataset import Photographs
    from heads.config import TaskConfig
    from heads.features import Features
    from heads.halves import Suffix
    from heads.head import Head
    from heads.targets import Target

    Shown = Dataset[tuple[Tensor, Tensor]]


FEATURE_BATCH = 64  # fixed, since features' last digits depend on how many are computed at once


def parse() -> argparse.Namespace:
    """Read the command line; a flag wins over the environment, the environment over the YAML."""
    parser = argparse.ArgumentParser(
        description="Train one head from its YAML into RUNS/TASK/.",
        epilog="The environment gives defaults: SM_CHANNEL_TRAIN for --data, SM_MODEL_DIR for --runs.",
    )
    parser.add_argument(
        "--task",
        required=True,
        nargs="+",
        metavar="NAME",
        help="name of the head: age, gender, mask, or your own; several are trained side by side, each on a "
        "device or a share of the cores of its own",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="its YAML, or the folder of TASK.yaml (default: configs)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        metavar="DIR",
        help="the challenge's train/ folder, a folder with labels.csv and images/, or a CSV; may be repeated",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path(os.environ.get("SM_MODEL_DIR", "runs")), help="where runs are kept"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep photographs decoded and scaled here, for all heads and folds",
    )
    parser.add_argument(
        "--cache-limit",
        type=float,
        default=10.0,
        metavar="GB",
        help="what --cache may take (default: %(default)s)",
    )
    parser.add_argument(
        "--fold",
        type=int,
        nargs="+",
        metavar="K",
        help="validate on fold K; goes to RUNS/TASK/fold-K/; several as with --task",
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--set", action="append", default=[], metavar="key.sub=value", help="override one key of the YAML"
    )
    bad_image_option(parser)
    boxes_options(parser)
    debug_option(parser)
    args = parser.parse_args()
    if args.data is None:
        if "SM_CHANNEL_TRAIN" not in os.environ:
            parser.error("--data is missing and SM_CHANNEL_TRAIN is not set: where are the photographs?")
        args.data = [Path(os.environ["SM_CHANNEL_TRAIN"])]
    return args


def read_config(args: argparse.Namespace) -> "TaskConfig":
    """The YAML with its overrides; its task must be the one asked for."""
    from ensemble.views import make_views
    from heads.adopted import adopted
    from heads.config import TaskConfig, default_path
    from heads.schema import load

    fold = [] if args.fold is None else [f"split.fold={args.fold}"]
    path = args.config or default_path(args.task)
    if path.is_dir():
        path /= f"{args.task}.yaml"
    config = load(TaskConfig, path, [*args.set, *fold])
    if config.task != args.task:
        raise InputError(f"{path}: task is {config.task!r}, expected {args.task!r} as --task says")
    try:
        make_views(config.views.steps)  # else a typo would show only when the trained head is used
    except ValueError as error:
        raise InputError(f"{path}: views.steps: {error}") from None
    return adopted(config, str(path))


def find_bad(args: argparse.Namespace) -> "dict[str, str] | None":
    """What is wrong with each photograph that is to be left out; None where such a one ends the run."""
    if args.on_bad_image == "stop":
        return None
    from data.manifest import read_table
    from data.soundness import tell, undecodable

    bad = undecodable(read_table(args.data, lenient=True)["path"].tolist())
    if bad:
        print(tell(bad), file=sys.stderr)
    return bad


def read_rows(
    config: "TaskConfig", sources: list[Path], target: "Target", bad: "dict[str, str] | None" = None
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Labelled rows to train on and to validate on, without those of `bad`; no person is in both."""
    from data.corrections import apply_corrections
    from data.manifest import read_table
    from data.split import assign_folds

    table = read_table(sources, lenient=bad is not None)
    if config.corrections is not None:
        table = apply_corrections(table, Path(config.corrections))
    # Before any row is left out: a person's fold must be the same for heads with other labels.
    table["fold"] = assign_folds(table, config.split.folds, config.split.strata, config.split.seed)
    rows = target.labelled(table[~table["path"].isin(bad or {})])
    held_out = rows["fold"] == config.split.fold
    if not held_out.any():
        raise InputError(f"fold {config.split.fold}: found no labelled photograph, expected at least 1")
    return rows[~held_out].reset_index(drop=True), rows[held_out].reset_index(drop=True)


def reader(
    config: "TaskConfig",
    args: argparse.Namespace,
    read: "Callable[[Path], Any]",
    bad: "dict[str, str] | None" = None,
) -> "Callable[[Path], Any]":
    """What reads a photograph's pixels: `read`, or with --cache the copy that is kept at the working size."""
    if args.cache is None:
        return read
    from data.cache import cached_reader
    from data.manifest import read_table
    from data.transforms import working_size

    size = working_size(config.pixels.train, config.pixels.evaluate)
    if size is None:
        raise InputError(
            "--cache: pixels.train and pixels.evaluate do not both letterbox to one size before any crop, "
            "expected that; change the YAML or leave --cache out"
        )
    table = read_table(args.data, lenient=bad is not None)
    kept = table[~table["path"].isin(bad or {})]
    mark = read.digest if isinstance(read, CroppedReader) else ""
    return cached_reader(args.cache, kept, size, int(args.cache_limit * 1e9), read=read, mark=mark)


def with_kept_features(
    config: "TaskConfig",
    args: argparse.Namespace,
    head: "Head",
    sets: tuple["Photographs", "Photographs"],
    accelerator: "Accelerator",
) -> tuple["Suffix", "Features", "Features"]:
    """What of `head` is trained, and what its frozen part makes of the sets to train and to validate on."""
    from importlib.metadata import version

    from data.cache import CachedReader
    from heads.features import Features, kept_features
    from heads.halves import Prefix, Suffix
    from heads.loading import loader
    from heads.run import PACKAGES

    t, up_to = config.training, config.backbone.freeze
    prefix, read = Prefix(head, up_to), sets[0].read
    assert isinstance(read, CachedReader)
    in_use = read.files
    # The pixel caches' names stand for their photographs, crops and size.
    marks = [*sorted(file.name for file in in_use), accelerator.mixed_precision, accelerator.device.type]
    marks += map(version, PACKAGES)
    kept = []
    with accelerator.main_process_first(), accelerator.autocast():  # one computes, the others find it there
        for photographs, views, steps in (
            (sets[0], t.feature_views or 1, config.pixels.train),
            (sets[1], 1, config.pixels.evaluate),
        ):
            file = kept_features(
                args.cache,
                prefix,
                photographs,
                views,
                lambda shown, draws: loader(shown, draws, FEATURE_BATCH, t.workers, t.seed),
                [steps, *marks],
                int(args.cache_limit * 1e9),
                in_use,
            )
            in_use.add(file)
            kept.append(Features(file, photographs.targets))
    return Suffix(head, up_to), kept[0], kept[1]


def train(args: argparse.Namespace) -> None:
    """Train the head that `args` name."""
    config = read_config(args)
    if config.training.feature_views is not None and args.cache is None:
        raise InputError("training.feature_views: needs --cache DIR, where features are kept")

    import torch
    from accelerate import Accelerator

    from data.dataset import Photographs, in_order
    from data.memory import keep_freed_memory
    from data.soundness import list_left_out
    from data.transforms import Pipeline
    from heads.build import (
        fill_trunk_of,
        head_of,
        learner_of,
        loss_of,
        mixing_of,
        resizing_of,
        target_of,
        trained_target_of,
    )
    from heads.convolutions import tiles_pay, with_winograd
    from heads.dealing import deal_training, deal_validation
    from heads.keeper import Keeper
    from heads.loading import loader
    from heads.precision import accelerate_name
    from heads.processes import WholeBatchLoss, refuse_disagreement, synchronise_batch_norm, together
    from heads.run import run_folder
    from heads.sampling import BalancedSampler, class_counts
    from heads.training import Material, Plan, Truth, fit
    from heads.trunk_run import tell_of_seen, trunk_run

    keep_freed_memory()
    target, t = target_of(config.label), config.training
    accelerator = Accelerator(mixed_precision=accelerate_name(t.precision))
    bad = find_bad(args)
    train_rows, valid_rows = read_rows(config, args.data, target, bad)
    trained = trained_target_of(config.label)
    train_rows = trained.without(train_rows, config.label.training.leave_out)
    labels = trained.class_indices(train_rows)
    counts = class_counts(labels, target.classes)
    told = ", ".join(f"{name} {count}" for name, count in zip(target.classes, counts, strict=True))
    accelerator.print(
        f"{config.task}: {len(train_rows)} photographs to train ({told}), {len(valid_rows)} to validate"
    )

    torch.manual_seed(t.seed)
    head = head_of(config)
    synchronise_batch_norm(head, accelerator)
    accelerator.print(f"trunk from {fill_trunk_of(head, config.backbone, args.runs, args.fold)}", flush=True)
    run = trunk_run(config.backbone.weights, args.runs, args.fold)
    if run is not None and accelerator.is_main_process:
        print(tell_of_seen(run, valid_rows["person"]), end="", file=sys.stderr, flush=True)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "no" and tiles_pay():
        with_winograd(head.trunk)

    persons = train_rows["person"].tolist()
    sampler = BalancedSampler(labels, persons, config.sampler.power, config.sampler.per_person, t.seed)
    pipeline, still = Pipeline(config.pixels.train), Pipeline(config.pixels.evaluate)
    crops, margin = reader_of(args.boxes, args.box_margin), None
    if isinstance(crops, CroppedReader):
        margin = crops.margin
        accelerator.print(crops.told([*train_rows["path"], *valid_rows["path"]]))
    with accelerator.main_process_first():  # one writes the cache, the others find it there
        read = reader(config, args, crops, bad)
    train_set = Photographs(train_rows["path"].tolist(), trained.encode(train_rows), pipeline, t.seed, read)
    valid_set = Photographs(valid_rows["path"].tolist(), target.encode(valid_rows), still, read=read)
    learned: Head | Suffix = head.to(accelerator.device)
    shown_train: Shown = train_set
    shown_valid: Shown = valid_set
    workers = t.workers
    if t.feature_views is not None:
        learned, shown_train, shown_valid = with_kept_features(
            config, args, head, (train_set, valid_set), accelerator
        )
        workers = 0  # reading features takes less than handing them over
    train_loader = loader(shown_train, sampler, t.batch_size, workers, t.seed)
    valid_loader = loader(shown_valid, in_order(len(valid_set)), t.batch_size, workers, t.seed)

    learner = learner_of(config, learned, len(train_loader))
    learner.head, learner.optimiser = accelerator.prepare(learner.head, learner.optimiser)
    train_loader = deal_training(train_loader, accelerator)
    valid_loader = deal_validation(valid_loader, accelerator)
    values = target.values(valid_rows).numpy() if target.numbers else None
    truth = Truth(target.class_indices(valid_rows), values)
    loss = WholeBatchLoss(loss_of(config.loss, counts, trained).to(accelerator.device), accelerator)
    mixing, resizing = mixing_of(t.mix, counts, trained), resizing_of(t)
    material = Material(target, train_loader, valid_loader, sampler, truth, mixing, resizing)
    plan = Plan(t.epochs, t.select_by, t.validate_every, t.patience, t.clip_norm, t.seed)

    run_here = run_folder(args.runs, config.task, args.fold)
    keeper = Keeper(run_here, config, valid_rows, valid_set, truth, margin)
    keeper.open(learner, args.resume)
    with together(accelerator):
        refuse_disagreement("photographs to train", len(sampler), accelerator)
        refuse_disagreement("epochs to go on from", len(learner.history), accelerator)
        fit(learner, material, loss, plan, accelerator, keeper.after_epoch, keeper.when_stopped)
    if accelerator.is_main_process:
        list_left_out(keeper.run.folder, bad or {})
        keeper.close(learner, plan)


def train_several(args: argparse.Namespace) -> None:
    """Train each head and fold that `args` name in a process of its own; exit as they did."""
    from heads.several import exit_code, places, plan_jobs, run_jobs, summary

    if "LOCAL_WORLD_SIZE" in os.environ:
        raise InputError("--task: several heads under a launcher of processes, expected one; launch each apart")
    if args.config is not None and not args.config.is_dir() and len(args.task) > 1:
        raise InputError(f"--config {args.config}: one file for several heads, expected the folder of theirs")
    weights = {}
    for task in args.task:
        # A head whose YAML is wrong tells so itself, and takes no other along.
        with suppress(InputError):
            one = argparse.Namespace(**vars(args) | {"task": task, "fold": None})
            weights[task] = read_config(one).backbone.weights
    command = [sys.executable, __file__, *sys.argv[1:]]
    jobs = plan_jobs(command, args.task, args.fold or [None], weights)
    codes = run_jobs(jobs, places(len(jobs)))
    print("\n".join(summary(codes)))
    sys.exit(exit_code(codes))


def main() -> None:
    """Parse, then train; torch is imported after parsing, so that --help answers at once."""
    args = parse()
    if len(args.task) > 1 or len(args.fold or ()) > 1:
        train_several(args)
        return
    from data.locks import held
    from heads.processes import is_first
    from heads.run import run_folder

    args.task, args.fold = args.task[0], None if args.fold is None else args.fold[0]
    run = run_folder(args.runs, args.task, args.fold)
    with held(run.lock, f"{run.folder}") if is_first() else nullcontext():
        train(args)


if __name__ == "__main__":
    run_script(main)
