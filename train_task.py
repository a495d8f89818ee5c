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
from data.runtime.errors import InputError, add_bad_image_option, add_debug_option, raise_all, run_script

if TYPE_CHECKING:
    from heads.config.task import TaskConfig


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
        help="keep images decoded and scaled here, for all heads and folds",
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
    add_bad_image_option(parser)
    add_box_options(parser)
    add_debug_option(parser)
    args = parser.parse_args()
    if args.data is None:
        if "SM_CHANNEL_TRAIN" not in os.environ:
            parser.error("--data is missing and SM_CHANNEL_TRAIN is not set: where are the images?")
        args.data = [Path(os.environ["SM_CHANNEL_TRAIN"])]
    return args


def read_config(args: argparse.Namespace) -> "TaskConfig":
    """The YAML with its overrides; its task must be the one asked for, and every setting must do something."""
    from ensemble.inference.views import make_views
    from heads.config.loader import load_config
    from heads.config.task import TaskConfig, default_path, find_unused_settings
    from heads.model.weights_metadata import apply_weights_metadata

    fold = [] if args.fold is None else [f"split.fold={args.fold}"]
    path = args.config or default_path(args.task)
    if path.is_dir():
        path /= f"{args.task}.yaml"
    config = load_config(TaskConfig, path, [*args.set, *fold])
    if config.task != args.task:
        raise InputError(f"{path}: task is {config.task!r}, expected {args.task!r} as --task says")
    try:
        make_views(config.views.steps)  # else a typo would show only when the trained head is used
    except ValueError as error:
        raise InputError(f"{path}: views.steps: {error}") from None
    raise_all(f"{path}: settings that would do nothing", find_unused_settings(config))
    return apply_weights_metadata(config, str(path))


def train(args: argparse.Namespace) -> None:
    """Train the head that `args` name."""
    config = read_config(args)

    from accelerate import Accelerator

    from data.images.validate import write_left_out
    from data.runtime.memory import reuse_freed_memory
    from heads.run.folder import run_folder
    from heads.train.distributed import check_same, handle_lost_process
    from heads.train.loop import fit
    from heads.train.precision import resolve_precision
    from heads.train.recorder import RunRecorder
    from heads.train.settings import FitSettings
    from heads.train.setup import DataOptions, init_head, make_loaders, make_state_and_loss, make_training_data
    from heads.train.split import load_split

    reuse_freed_memory()
    t = config.training
    accelerator = Accelerator(mixed_precision=resolve_precision(t.precision))
    sources = DataOptions(args.data, args.boxes, args.box_margin, args.cache, args.cache_limit)
    people = load_split(config, args.data, args.on_bad_image == "skip", accelerator)
    head = init_head(config, args.runs, args.fold, people.valid["person"], accelerator)
    shown = make_loaders(config, sources, head, people, accelerator)

    learner, loss = make_state_and_loss(config, people, shown, accelerator)
    material = make_training_data(config, people, shown, accelerator)
    plan = FitSettings(t.epochs, t.select_by, t.validate_every, t.patience, t.clip_norm, t.seed)

    run = run_folder(args.runs, config.task, args.fold)
    keeper = RunRecorder(run, config, people.valid, shown.images, material.truth, shown.marks, shown.box_margin)
    keeper.open(learner, args.resume)
    with handle_lost_process(accelerator):
        check_same("images to train", len(shown.sampler), accelerator)
        check_same("epochs to go on from", len(learner.history), accelerator)
        fit(learner, material, loss, plan, accelerator, keeper.after_epoch, keeper.when_stopped)
    if accelerator.is_main_process:
        write_left_out(keeper.run.folder, people.bad or {})
        keeper.close(learner, plan)


def train_several(args: argparse.Namespace) -> None:
    """Train each head and fold that `args` name in a process of its own; exit as they did."""
    from heads.run.jobs import exit_code, list_devices, plan_jobs, run_jobs, summary

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
    codes = run_jobs(jobs, list_devices(len(jobs)))
    print("\n".join(summary(codes)))
    sys.exit(exit_code(codes))


def main() -> None:
    """Parse, then train; torch is imported after parsing, so that --help answers at once."""
    args = parse()
    if len(args.task) > 1 or len(args.fold or ()) > 1:
        train_several(args)
        return
    from data.runtime.locks import hold_lock
    from heads.run.folder import run_folder
    from heads.train.distributed import is_main_process

    args.task, args.fold = args.task[0], None if args.fold is None else args.fold[0]
    run = run_folder(args.runs, args.task, args.fold)
    with hold_lock(run.lock, f"{run.folder}") if is_main_process() else nullcontext():
        train(args)


if __name__ == "__main__":
    run_script(main)
