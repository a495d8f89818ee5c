"""Options that say what computes the heads; nothing heavy is imported, so that --help answers at once."""

import argparse
import os
from pathlib import Path


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """Give a script's parser --engine, --precision and --calibration."""
    parser.add_argument(
        "--engine",
        choices=("torch", "onnx", "openvino"),
        default="torch",
        help="what computes the heads; the others need requirements-fast.txt (default: %(default)s)",
    )
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
        help="for int8: the training data, as --data of train_task.py; may be repeated (default: "
        "SM_CHANNEL_TRAIN)",
    )


def check_backend_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and fill in the training data from the environment."""
    if args.precision != "int8":
        if args.calibration is not None:
            parser.error("--calibration goes with --precision int8 alone")
        return
    if args.engine != "openvino" or args.place == "ray":
        parser.error("--precision int8 goes with --engine openvino and --place here alone")
    if args.calibration is None:
        if "SM_CHANNEL_TRAIN" not in os.environ:
            parser.error(
                "--calibration is missing and SM_CHANNEL_TRAIN is not set: where is the training data, which "
                "--precision int8 is calibrated on?"
            )
        args.calibration = [Path(os.environ["SM_CHANNEL_TRAIN"])]
