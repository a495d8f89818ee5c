"""Command line options that combine.py and `python -m ensemble.cluster` share; nothing slow is imported, for --help."""

import argparse
import math
import os
from pathlib import Path

from data.images.find import LISTING
from data.runtime.errors import add_debug_option, whole_number_from

SUBMISSION = "submission.csv"
JOINT_YAML = Path(__file__).parents[1] / "configs" / "joint.yaml"
MOVED = {
    "--vote": "python -m ensemble.vote a.csv b.csv --out voted.csv",
    "--place": "python -m ensemble.cluster --data DATA --parts DIR",
    "--parts": "python -m ensemble.cluster --data DATA --parts DIR",
    "--part-rows": "python -m ensemble.cluster --data DATA --parts DIR --part-rows N",
}
HELP = {
    "out": "the submission (default: submission.csv in SM_OUTPUT_DATA_DIR, else here)",
    "config": "the tasks of the joint code (default: configs/joint.yaml of this program)",
    "config of runs": "the tasks of the joint code, and their labels in the YAML files beside it, which the heads must "
    "fit (default: joint.yaml in RUNS, else configs/joint.yaml of this program, with the heads' own labels)",
    "runs": "folder of the heads from train_task.py (default: SM_CHANNEL_MODEL, else runs)",
    "batch": "images computed together (default: %(default)s)",
    "engine": "what computes the heads; onnx and openvino need requirements-fast.txt; auto: the quickest on this "
    "machine, measured once for 1024 images or more (default: %(default)s)",
    "views": "test-time views: plain (each image as it is), default (those that pay, views.steps of the YAML), all "
    "(views.further, too), or adaptive: those of default only where the first one leaves the class open",
    "margin": "with --views adaptive, for every head: the gap of its two largest probabilities from which one view is "
    "enough, 0 (always) to 1 (never); by default chosen on validation images and saved in RUNS/margins.json",
    "raw": "leave probabilities as the heads predict them, without the temperatures fitted in training",
    "precision": "auto: bf16 (bfloat16) where it is quicker, held to fp32 on the first images and by macro F1 on "
    "validation people; int8, by OpenVINO, from RUNS/int8.npz of python -m ensemble.export --format int8 "
    "(default: %(default)s)",
    "calibration": "for int8: the training data, as --data of train_task.py, which writes RUNS/int8.npz where it is "
    "missing; may be repeated (default: SM_CHANNEL_TRAIN)",
}


def add_out_option(parser: argparse.ArgumentParser) -> None:
    """Add --out, the submission."""
    default = Path(os.environ.get("SM_OUTPUT_DATA_DIR", ".")) / SUBMISSION
    parser.add_argument("--out", type=Path, default=default, metavar="FILE", help=HELP["out"])


def add_config_option(parser: argparse.ArgumentParser, of_runs: bool = False) -> None:
    """Add --config; with `of_runs` it is None by default, for `ensemble.inference.load` to choose."""
    default, text = (None, HELP["config of runs"]) if of_runs else (JOINT_YAML, HELP["config"])
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help=text)


def add_ensemble_options(parser: argparse.ArgumentParser, engine: str = "auto") -> None:
    """Add the options that say which heads predict, and how; `engine` is the default of --engine."""
    runs, views = Path(os.environ.get("SM_CHANNEL_MODEL", "runs")), ("plain", "default", "all", "adaptive")
    engines = ("auto", "torch", "onnx", "openvino") if engine == "auto" else ("torch", "onnx", "openvino")
    add_config_option(parser, of_runs=True)
    parser.add_argument("--runs", type=Path, default=runs, metavar="DIR", help=HELP["runs"])
    parser.add_argument("--batch-size", type=whole_number_from(1), default=64, metavar="N", help=HELP["batch"])
    parser.add_argument("--engine", choices=engines, default=engine, help=HELP["engine"])
    parser.add_argument("--views", choices=views, default="default", help=HELP["views"])
    parser.add_argument("--raw-probabilities", action="store_true", help=HELP["raw"])
    parser.add_argument("--margin", type=_probability, metavar="M", help=HELP["margin"])
    add_debug_option(parser)


def add_int8_options(parser: argparse.ArgumentParser) -> None:
    """Add --precision and --calibration."""
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "int8"), default="auto", help=HELP["precision"])
    parser.add_argument("--calibration", type=Path, action="append", metavar="DIR", help=HELP["calibration"])


class MovedOption(argparse.Action):
    """An option of version 0.1 whose work is a command of its own now, one of `MOVED`."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        option = self.option_strings[0]
        parser.exit(2, f"error: {option} moved to a command of its own: {MOVED[option]}\n")


def add_moved_options(parser: argparse.ArgumentParser) -> None:
    """Refuse the options of `MOVED` with the command that replaces them."""
    for option in MOVED:
        parser.add_argument(option, action=MovedOption, nargs="*", help=argparse.SUPPRESS)


def check_margin(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse --margin without --views adaptive."""
    if args.margin is not None and args.views != "adaptive":
        parser.error("--margin goes with --views adaptive")


def check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options of combine.py that do not go together; read the calibration data from the environment."""
    check_margin(parser, args)
    training = os.environ.get("SM_CHANNEL_TRAIN")
    if "://" in args.data:
        parser.error(f"--data {args.data}: a URL, expected a folder; python -m ensemble.cluster reads URLs")
    if args.calibration is not None and args.precision != "int8":
        parser.error("--calibration goes with --precision int8")
    if args.precision == "bf16" and args.engine == "onnx":
        parser.error("--precision bf16 goes with --engine torch or openvino")
    if args.precision == "int8":
        if args.engine not in ("auto", "openvino"):
            parser.error("--precision int8 goes with --engine openvino")
        args.calibration = args.calibration or ([] if training is None else [Path(training)])
    beside = args.out.absolute().parent
    written = [beside / "probabilities.npz", beside / "unseen.csv"]
    inputs = [Path(args.data).resolve(), Path(args.data, LISTING).resolve()]
    for option, file in (("--out", args.out), ("--names", args.names)):
        if file is not None and file.is_dir():
            parser.error(f"{option} {file} is a folder, expected a file such as {file / SUBMISSION}")
        if file is not None and file.resolve() in inputs:
            parser.error(f"{option} {file} is read from --data, expected another file, such as {SUBMISSION}")
        if file is not None and file.absolute() in written:
            parser.error(f"{option} {file}: {file.name} goes beside the submission, expected another name")
        written.append(args.out.absolute())


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 0 to 1")
    return value
