"""Command line options that combine.py and `python -m ensemble.cluster` share; nothing slow is imported, for --help."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from data.runtime.errors import add_debug_option, whole_number_from

SUBMISSION = "submission.csv"


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add --config."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("configs/joint.yaml"),
        metavar="FILE",
        help="the tasks of the joint code (default: %(default)s)",
    )


def add_ensemble_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which heads predict, and how."""
    add_config_option(parser)
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path(os.environ.get("SM_CHANNEL_MODEL", "runs")),
        metavar="DIR",
        help="folder of the heads from train_task.py (default: SM_CHANNEL_MODEL, else runs)",
    )
    parser.add_argument(
        "--batch-size",
        type=whole_number_from(1),
        default=64,
        metavar="N",
        help="images computed together (default: %(default)s)",
    )
    parser.add_argument(
        "--engine",
        choices=("torch", "onnx", "openvino"),
        default="torch",
        help="what computes the heads; the others need requirements-fast.txt (default: %(default)s)",
    )
    parser.add_argument(
        "--views",
        choices=("all", "adaptive"),
        default="all",
        help="adaptive: further test-time views only for images whose first view leaves the class open",
    )
    parser.add_argument(
        "--margin",
        type=_probability,
        metavar="M",
        help="with --views adaptive, for every head: the gap of its two largest probabilities from which one view "
        "is enough, 0 (always) to 1 (never); by default chosen on the runs' validation images and saved in "
        "RUNS/margins.json",
    )
    add_debug_option(parser)


def add_int8_options(parser: argparse.ArgumentParser) -> None:
    """Add --precision and --calibration."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "int8"),
        default="fp32",
        help="int8, with --engine openvino: calibrated on training images, refused where macro F1 on "
        "validation people drops by more than 0.003 (default: %(default)s)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        action="append",
        metavar="DIR",
        help="for int8: the training data, as --data of train_task.py; may be repeated (default: SM_CHANNEL_TRAIN)",
    )


def add_moved_options(parser: argparse.ArgumentParser, commands: Mapping[str, str]) -> None:
    """Refuse options of version 0.1 whose work is a command of its own now: `commands` by option."""

    class Moved(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
            option = self.option_strings[0]
            parser.exit(2, f"error: {option} moved to a command of its own: {commands[option]}\n")

    for option in commands:
        parser.add_argument(option, action=Moved, nargs="*", help=argparse.SUPPRESS)


def check_margin(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse --margin without --views adaptive."""
    if args.margin is not None and args.views != "adaptive":
        parser.error("--margin goes with --views adaptive")


def check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options of combine.py that do not go together; read the calibration data from the environment."""
    check_margin(parser, args)
    if "://" in args.data:
        parser.error(f"--data {args.data}: a URL, expected a folder; python -m ensemble.cluster reads URLs")
    if args.precision == "fp32" and args.calibration is not None:
        parser.error("--calibration goes with --precision int8")
    if args.precision == "int8" and args.engine != "openvino":
        parser.error("--precision int8 goes with --engine openvino")
    if args.precision == "int8" and args.calibration is None:
        if "SM_CHANNEL_TRAIN" not in os.environ:
            parser.error(
                "--calibration is missing and SM_CHANNEL_TRAIN is not set: where is the training data, which "
                "--precision int8 is calibrated on?"
            )
        args.calibration = [Path(os.environ["SM_CHANNEL_TRAIN"])]
    folder = args.out.absolute().parent
    taken = [folder / "probabilities.npz", folder / "unseen.csv"]  # written beside the submission
    for option, file in (("--out", args.out), ("--names", args.names)):
        if file is not None and file.is_dir():
            parser.error(f"{option} {file} is a folder, expected a file such as {file / SUBMISSION}")
        if file is not None and file.absolute() in taken:
            parser.error(f"{option} {file}: {file.name} goes beside the submission, expected another name")
        taken.append(args.out.absolute())


def _probability(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected 0 to 1")
    return float(text)
