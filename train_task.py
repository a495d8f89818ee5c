"""Train one head: one YAML in, runs/<task>/ out.

python train_task.py --task age --data path/to/train
"""

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from data.images.crop import add_box_options
from data.runtime.errors import InputError, add_bad_image_option, add_debug_option, gigabytes, run_script


def parse() -> argparse.Namespace:
    """Parse the command line; a flag wins over the environment, the environment over the YAML."""
    parser = argparse.ArgumentParser(
        description="Train one head from its YAML into RUNS/TASK/.",
        epilog="The environment gives defaults: SM_CHANNEL_TRAIN for --data, SM_MODEL_DIR for --runs.",
    )
    tasks = "age, gender, mask, or your own; several are trained side by side, each on its share of the machine"
    sources = "the challenge's train/ folder, a folder with labels.csv and images/, a CSV, or LABEL=FOLDER with a "
    sources += "folder for each class; may be repeated"
    add, runs = parser.add_argument, Path(os.environ.get("SM_MODEL_DIR", "runs"))
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--task", nargs="+", metavar="NAME", help=tasks)
    which.add_argument("--recipe", type=Path, metavar="FILE", help="a YAML of heads, each with its data and settings")
    add("--config", type=Path, metavar="FILE", help="its YAML, or the folder of TASK.yaml (default: configs)")
    add("--data", type=Path, action="append", metavar="DIR", help=sources)
    add("--runs", type=Path, default=runs, metavar="DIR", help="folder of all runs (default: %(default)s)")
    add("--cache", type=Path, metavar="DIR", help="folder for decoded images, shared by all heads and folds")
    add("--cache-limit", type=gigabytes, default="10", metavar="GB", help="of --cache (default: %(default)s)")
    add("--fold", type=int, nargs="+", metavar="K", help="validate on fold K, in RUNS/TASK/fold-K/; or several")
    add("--resume", action="store_true", help="resume an interrupted run")
    add("--set", action="append", default=[], metavar="key.sub=value", help="override one key of the YAML")
    for add_option in (add_bad_image_option, add_box_options, add_debug_option):
        add_option(parser)
    args = parser.parse_args()
    if args.recipe is not None and args.data is not None:
        parser.error("--data: the heads of --recipe have their own")
    if args.recipe is None and args.data is None:
        if "SM_CHANNEL_TRAIN" not in os.environ:
            parser.error("--data is missing and SM_CHANNEL_TRAIN is not set: where are the images?")
        args.data = [Path(os.environ["SM_CHANNEL_TRAIN"])]
    return args


def train(args: argparse.Namespace) -> None:
    """Train one head: read config and data, build everything, fit, write the run's folder."""
    from accelerate import Accelerator

    from data.runtime.machine import reuse_freed_memory
    from heads import build
    from heads.run.folder import run_folder
    from heads.run.jobs import use_thread_share
    from heads.train.distributed import WholeBatchLoss, check_same, handle_lost_process, resolve_precision
    from heads.train.loaders import open_images
    from heads.train.loop import fit

    fold = [] if args.fold is None else [f"split.fold={args.fold}"]
    config = build.load_task_config(args.task, args.config, [*args.set, *fold])
    reuse_freed_memory()
    use_thread_share()
    accelerator = Accelerator(mixed_precision=resolve_precision(config.training.precision))
    run = run_folder(args.runs, config.task, args.fold)
    if run.metrics.is_file() and not args.resume:
        accelerator.print(f"{run.folder}: this training replaces the finished head there", flush=True)
    split = build.build_split(config, args.data, args.runs, args.on_bad_image == "skip")
    split, teacher = build.add_teacher(config, split, args.runs, run, args.boxes, accelerator)
    people, leakage = build.find_leakage(config, args.runs, args.fold, split, teacher)
    accelerator.print(split.warnings + leakage, end="", file=sys.stderr, flush=True)
    accelerator.print(f"{config.task}: {split.summary}", flush=True)
    steps = (config.pixels.train, config.pixels.evaluate)
    source = open_images(split, steps, args.boxes, args.box_margin, args.cache, args.cache_limit, accelerator)
    head = build.init_head(config, args.runs, args.fold, accelerator, split.embedded)
    data = build.build_training_data(config, split, head, source, accelerator)
    recorder = build.build_recorder(config, run, split, source, head, people, teacher)
    loss = build.build_loss(config.loss, split.counts, split.target, config.training.mix is not None)
    settings = build.build_settings(config.training)
    state = build.build_train_state(config, head, len(data.train), accelerator)
    loss = WholeBatchLoss(loss, accelerator)
    if args.resume:
        recorder.resume(state)
    build.store_split(config, args.runs, split)
    with handle_lost_process(accelerator):
        check_same("images to train", len(data.sampler), accelerator)
        check_same("epochs to resume from", len(state.history), accelerator)
        fit(state, data, loss, settings, accelerator, recorder)
    if accelerator.is_main_process:
        recorder.close(state, split.bad)


def train_several(args: argparse.Namespace) -> int:
    """Train each head and fold, or a recipe's, in a process of its own; return the exit code."""
    from heads.run.jobs import plan_jobs, run_side_by_side
    from heads.run.recipe import find_sources, run_recipe

    if "LOCAL_WORLD_SIZE" in os.environ:
        raise InputError("found several heads under a launcher of processes, expected one --task per launch")
    command = [sys.executable, __file__]
    if args.recipe is not None:
        return run_recipe(args, command, sys.argv[1:])
    if args.config is not None and not args.config.is_dir() and len(args.task) > 1:
        raise InputError(f"--config {args.config}: found one file for several heads, expected their folder")
    weights, teachers = find_sources(dict.fromkeys(args.task, args.set), args.config)
    return run_side_by_side(plan_jobs([*command, *sys.argv[1:]], args.task, args.fold or [None], weights, teachers))


def main() -> None:
    """Parse, then train; torch is imported after parsing, so that --help is quick."""
    args = parse()
    if args.recipe is not None or len(args.task) > 1 or len(args.fold or ()) > 1:
        sys.exit(train_several(args))
    from data.runtime.files import hold_lock
    from heads.run.folder import run_folder
    from heads.train.distributed import is_main_process

    args.task, args.fold = args.task[0], None if args.fold is None else args.fold[0]
    run = run_folder(args.runs, args.task, args.fold)
    with hold_lock(run.lock, f"{run.folder}") if is_main_process() else nullcontext():
        train(args)


if __name__ == "__main__":
    run_script(main)
