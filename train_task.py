"""Train one head: one YAML in, runs/<task>/ out.

python train_task.py --task age --data path/to/train
"""

import argparse
import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from data.crops import CroppedReader, boxes_options, reader_of
from data.errors import InputError, bad_image_option, debug_option, run_script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from accelerate import Accelerator
    from torch import Tensor
    from torch.utils.data import Dataset

    from heads.config import TaskConfig
    from heads.halves import Suffix
    from heads.head import Head
    from heads.shown import Read

    Shown = Dataset[tuple[Tensor, Tensor]]


def gigabytes(text: str) -> int:
    """So many gigabytes in bytes."""
    if not 0 < float(text) < 1e6:
        raise argparse.ArgumentTypeError(f"{text}, expected a number of gigabytes above 0")
    return int(float(text) * 1e9)


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
        type=gigabytes,
        default="10",
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


def begun(
    config: "TaskConfig", args: argparse.Namespace, judged_on: "pd.Series[str]", accelerator: "Accelerator"
) -> "Head":
    """The head with its trunk filled and frozen; tells what was loaded, and which of its judges it has seen."""
    import torch

    from heads.build import fill_trunk_of, head_of
    from heads.convolutions import tiles_pay, with_winograd
    from heads.processes import synchronise_batch_norm
    from heads.trunk_run import tell_of_seen, trunk_run

    torch.manual_seed(config.training.seed)
    head = head_of(config)
    synchronise_batch_norm(head, accelerator)
    told = fill_trunk_of(head, config.backbone, args.runs, args.fold)
    accelerator.print(f"trunk from {told}", flush=True)
    run = trunk_run(config.backbone.weights, args.runs, args.fold)
    if run is not None and accelerator.is_main_process:
        print(tell_of_seen(run, judged_on), end="", file=sys.stderr, flush=True)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "no" and tiles_pay():
        with_winograd(head.trunk)
    return head


def reader_and_margin(
    config: "TaskConfig",
    args: argparse.Namespace,
    paths: "Sequence[Path]",
    bad: "Mapping[str, str] | None",
    accelerator: "Accelerator",
) -> "tuple[Read, float | None]":
    """What gives a photograph's pixels (its file, a box in it, a kept copy), and the margin around boxes."""
    from heads.shown import reader_of_kept

    read, margin = reader_of(args.boxes, args.box_margin), None
    if isinstance(read, CroppedReader):
        margin = read.margin
        accelerator.print(read.told(paths))
    if args.cache is None:
        return read, margin
    with accelerator.main_process_first():  # one writes the cache, the others find it there
        return reader_of_kept(config, args.data, args.cache, args.cache_limit, read, bad), margin


def train(args: argparse.Namespace) -> None:
    """Train the head that `args` name."""
    config = read_config(args)
    if config.training.feature_views is not None and args.cache is None:
        raise InputError("training.feature_views: needs --cache DIR, where features are kept")

    from accelerate import Accelerator

    from data.dataset import Photographs, in_order
    from data.memory import keep_freed_memory
    from data.pipeline import Pipeline
    from data.soundness import list_left_out
    from heads.build import learner_of, loss_of, mixing_of, resizing_of, target_of, trained_target_of
    from heads.dealing import deal_training, deal_validation
    from heads.keeper import Keeper
    from heads.loading import loader
    from heads.plan import Plan
    from heads.precision import accelerate_name
    from heads.processes import WholeBatchLoss, refuse_disagreement, together
    from heads.rows import find_bad, read_rows
    from heads.run import run_folder
    from heads.sampling import BalancedSampler, class_counts
    from heads.shown import with_kept_features
    from heads.training import Material, fit
    from heads.validation import Truth

    keep_freed_memory()
    target, trained, t = target_of(config.label), trained_target_of(config.label), config.training
    accelerator = Accelerator(mixed_precision=accelerate_name(t.precision))

    # Who is trained on, and who judges.
    bad = find_bad(args.data) if args.on_bad_image == "skip" else None
    train_rows, valid_rows = read_rows(config, args.data, target, bad)
    train_rows = trained.without(train_rows, config.label.training.leave_out)
    labels = trained.class_indices(train_rows)
    counts = class_counts(labels, target.classes)
    told = ", ".join(f"{name} {count}" for name, count in zip(target.classes, counts, strict=True))
    accelerator.print(
        f"{config.task}: {len(train_rows)} photographs to train ({told}), {len(valid_rows)} to validate"
    )
    head = begun(config, args, valid_rows["person"], accelerator)

    # What it is shown of them.
    paths = [*train_rows["path"], *valid_rows["path"]]
    read, box_margin = reader_and_margin(config, args, paths, bad, accelerator)
    pipeline, still = Pipeline(config.pixels.train), Pipeline(config.pixels.evaluate)
    train_set = Photographs(train_rows["path"].tolist(), trained.encode(train_rows), pipeline, t.seed, read)
    valid_set = Photographs(valid_rows["path"].tolist(), target.encode(valid_rows), still, read=read)
    learned: Head | Suffix = head.to(accelerator.device)
    shown_train: Shown = train_set
    shown_valid: Shown = valid_set
    workers = t.workers
    if t.feature_views is not None:
        learned, shown_train, shown_valid = with_kept_features(
            config, args.cache, args.cache_limit, head, (train_set, valid_set), accelerator
        )
        workers = 0  # reading features takes less than handing them over
    persons = train_rows["person"].tolist()
    sampler = BalancedSampler(labels, persons, config.sampler.power, config.sampler.per_person, t.seed)
    train_loader = loader(shown_train, sampler, t.batch_size, workers, t.seed)
    valid_loader = loader(shown_valid, in_order(len(valid_set)), t.batch_size, workers, t.seed)

    # How it learns, on whatever there is to compute with.
    learner = learner_of(config, learned, len(train_loader))
    learner.head, learner.optimiser = accelerator.prepare(learner.head, learner.optimiser)
    loss = WholeBatchLoss(loss_of(config.loss, counts, trained).to(accelerator.device), accelerator)
    values = target.values(valid_rows).numpy() if target.numbers else None
    truth = Truth(target.class_indices(valid_rows), values)
    material = Material(
        target,
        deal_training(train_loader, accelerator),
        deal_validation(valid_loader, accelerator),
        sampler,
        truth,
        mixing_of(t.mix, counts, trained),
        resizing_of(t),
    )
    plan = Plan(t.epochs, t.select_by, t.validate_every, t.patience, t.clip_norm, t.seed)

    run = run_folder(args.runs, config.task, args.fold)
    keeper = Keeper(run, config, valid_rows, valid_set, truth, box_margin)
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
