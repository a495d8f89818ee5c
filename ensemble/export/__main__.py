"""Export the whole ensemble: images to every task's and the joint probabilities, as one graph, or its heads in int8.

python -m ensemble.export --runs RUNS --format onnx
python -m ensemble.export --runs RUNS --format int8 --calibration path/to/train

Scaling, normalisation, folds, test-time views, temperatures and the joint code are inside a graph; a model card is
written beside it. RUNS/int8.npz is what combine.py --precision int8 reads.
"""

import argparse
from pathlib import Path

from data.images.crop import CroppedReader, add_box_options, make_reader
from data.runtime.errors import run_script
from ensemble.options import add_config_option
from heads.export.__main__ import SUFFIXES, add_arguments

INT8 = "int8"
CALIBRATION = (
    "int8: the training data, as --data of train_task.py; may be repeated. Refused where macro F1 on validation people "
    "drops by more than 0.003"
)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m ensemble.export", description=(__doc__ or "").split("\n")[0])
    add_arguments(parser, (*SUFFIXES, INT8))
    add_config_option(parser, of_runs=True)
    parser.add_argument("--calibration", type=Path, action="append", metavar="DIR", help=CALIBRATION)
    add_box_options(parser)
    args = parser.parse_args()
    if (args.kind == INT8) != (args.calibration is not None):
        parser.error("--format int8 and --calibration DIR, the training data, go together")
    if args.kind == INT8 and args.maps:
        parser.error("--maps goes with --format onnx or torchscript")
    if args.kind != INT8 and args.boxes is not None:
        parser.error("--boxes goes with --format int8")
    return args


def main() -> None:
    """Read the command line and write the ensemble; torch is imported after, so that --help is quick."""
    args = parse()
    from ensemble.inference.load import load_tasks

    tasks = load_tasks(args.runs, args.config, args.box_margin if args.boxes else None)
    if args.kind == INT8:
        from data.runtime.processes import usable_workers
        from ensemble.backends.int8 import write_int8

        read = make_reader(args.boxes, args.box_margin)
        crops = read if isinstance(read, CroppedReader) else None
        print(write_int8(tasks, args.out or args.runs, args.calibration, crops, usable_workers(None)))
        return
    from ensemble.export.graph import export_with_card

    path = export_with_card(tasks, args.out or args.runs / "export", args.kind, args.maps, args.trained_on, args.terms)
    print(f"{path}, {path.with_suffix('.md')}")


if __name__ == "__main__":
    run_script(main)
