"""Train one head: one YAML in, runs/<task>/ out.

python train_task.py --task age --data path/to/train
"""

import argparse
import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from data.images.crop import add_box_options
from data.runtime.errors import InputError, add_bad_image_option, add_debug_option, run_script

if TYPE_CHECKING:
    from heads.config.task import TaskConfig


def gigabytes(text: str) -> int:
    """Parse a number of gigabytes; return bytes."""
    if not 0 < float(text) < 1e6:
        raise argparse.ArgumentTypeError(f"{text}, expected a number of gigabytes above 0")
    return int(float(text) * 1e9)


def parse() -> argparse.Namespace:
    """Parse the command line; a flag wins over the environment, the environment over the YAML."""
    parser = argparse.ArgumentParser(
        description="Train one head from its YAML into RUNS/TASK/.",
        epilog="The environment gives defaults: SM_CHANNEL_TRAIN for --data, SM_MODEL_DIR for --runs.",
    )
    add, runs = parser.add_argument, Path(os.environ.get("SM_MODEL_DIR", "runs"))
    several = "several are trained side by side, each on a device or a share of the cores of its own"
    add("--task", required=True, nargs="+", metavar="NAME", help=f"age, gender, mask, or your own; {several}")
    add("--config", type=Path, metavar="FILE", help="its YAML, or the folder of TASK.yaml (default: configs)")
    sources = "the challenge's train/ folder, a folder with labels.csv and images/, or a CSV; may be repeated"
    add("--data", type=Path, action="append", metavar="DIR", help=sources)
    add("--runs", type=Path, default=runs, metavar="DIR", help="folder of all runs (default: %(default)s)")
    add("--cache", type=Path, metavar="DIR", help="folder for decoded images, shared by all heads and folds")
    add(
        "--cache-limit",
        type=gigabytes,
        default="10",
        metavar="GB",
        help="size of --cache (default: %(default)s)",
    )
    folds = "validate on fold K; goes to RUNS/TASK/fold-K/; several as with --task"
    add("--fold", type=int, nargs="+", metavar="K", help=folds)
    add("--resume", action="store_true", help="resume an interrupted run")
    add("--set", action="append", default=[], metavar="key.sub=value", help="override one key of the YAML")
    for add_option in (add_bad_image_option, add_box_options, add_debug_option):
        add_option(parser)
    args = parser.parse_args()
    if args.data is None:
        if "SM_CHANNEL_TRAIN" not in os.environ:
            parser.error("--data is missing and SM_CHANNEL_TRAIN is not set: where are the images?")
        args.data = [Path(os.environ["SM_CHANNEL_TRAIN"])]
    return args


def read_config(args: argparse.Namespace) -> "TaskConfig":
    """Read the YAML with its overrides, and check it."""
    from ensemble.inference.views import make_views
    from heads.build import load_task_config

    config = load_task_config(args.task, args.config, args.set, args.fold)
    try:
        make_views(config.views.steps)  # else a typo would be found only when the trained head is used
    except ValueError as error:
        raise InputError(f"{args.task}: views.steps: {error}") from None
    return config


def train(args: argparse.Namespace) -> None:
    """Train one head: read config and data, build everything, fit, write the run's folder."""
    config = read_config(args)

    from accelerate import Accelerator

    from data.images.validate import write_left_out
    from data.runtime.machine import reuse_freed_memory
    from heads.build import (
        build_loss,
        build_recorder,
        build_settings,
        build_split,
        build_train_state,
        build_training_data,
        init_head,
    )
    from heads.run.folder import run_folder
    from heads.train.distributed import WholeBatchLoss, check_same, handle_lost_process, resolve_precision
    from heads.train.loaders import open_images
    from heads.train.loop import fit

    reuse_freed_memory()
    accelerator = Accelerator(mixed_precision=resolve_precision(config.training.precision))
    split = build_split(config, args.data, args.on_bad_image == "skip")
    if accelerator.is_main_process:
        print(split.warnings, end="", file=sys.stderr, flush=True)
        print(f"{config.task}: {split.summary}", flush=True)
    head = init_head(config, args.runs, args.fold, split.valid["person"], accelerator)
    steps = (config.pixels.train, config.pixels.evaluate)
    source = open_images(split, steps, args.boxes, args.box_margin, args.cache, args.cache_limit, accelerator)
    data = build_training_data(config, split, head, source, accelerator)
    state = build_train_state(config, head, len(data.train), accelerator)
    loss = WholeBatchLoss(build_loss(config.loss, split.counts, split.target), accelerator)
    recorder = build_recorder(config, run_folder(args.runs, config.task, args.fold), split, source, head)
    if args.resume:
        recorder.resume(state)
    with handle_lost_process(accelerator):
        check_same("images to train", len(data.sampler), accelerator)
        check_same("epochs to resume from", len(state.history), accelerator)
        fit(state, data, loss, build_settings(config.training), accelerator, recorder)
    if accelerator.is_main_process:
        write_left_out(recorder.run.folder, split.bad)
        recorder.close(state)


def train_several(args: argparse.Namespace) -> int:
    """Train each head and fold in a process of its own; return the exit code."""
    from heads.run.jobs import exit_code, list_devices, plan_jobs, run_jobs, summary

    if "LOCAL_WORLD_SIZE" in os.environ:
        raise InputError("--task: found several heads under a launcher of processes, expected one per launch")
    if args.config is not None and not args.config.is_dir() and len(args.task) > 1:
        raise InputError(f"--config {args.config}: found one file for several heads, expected their folder")
    weights = {}
    for task in args.task:
        with suppress(InputError):  # a head whose YAML is wrong reports it itself
            one = argparse.Namespace(**vars(args) | {"task": task, "fold": None})
            weights[task] = read_config(one).backbone.weights
    jobs = plan_jobs([sys.executable, __file__, *sys.argv[1:]], args.task, args.fold or [None], weights)
    codes = run_jobs(jobs, list_devices(len(jobs)))
    print("\n".join(summary(codes)))
    return exit_code(codes)


def main() -> None:
    """Parse, then train; torch is imported after parsing, so that --help is quick."""
    args = parse()
    if len(args.task) > 1 or len(args.fold or ()) > 1:
        sys.exit(train_several(args))
    from data.runtime.locks import hold_lock
    from heads.run.folder import run_folder
    from heads.train.distributed import is_main_process

    args.task, args.fold = args.task[0], None if args.fold is None else args.fold[0]
    run = run_folder(args.runs, args.task, args.fold)
    with hold_lock(run.lock, f"{run.folder}") if is_main_process() else nullcontext():
        train(args)


if __name__ == "__main__":
    run_script(main)
