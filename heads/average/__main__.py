"""Average the weights of one task's runs that start from one backbone, such as seeds or folds, into one head.

python -m heads.average seed0/age seed1/age seed2/age --out averaged/age

Greedy model soups (Wortsman et al. 2022, arXiv:2203.05482): runs are added from the best to the worst by validation,
and those that make the average worse are left out. OUT is a run folder like those of train_task.py.
"""

import argparse
from pathlib import Path

from data.images.crop import add_box_options
from data.runtime.errors import add_debug_option, run_script


def main() -> None:
    """Read the command line, average, write; torch is imported after parsing, so that --help is quick."""
    parser = argparse.ArgumentParser(prog="python -m heads.average", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="folders with best.safetensors")
    add("--out", type=Path, required=True, metavar="RUN", help="a new or an empty folder")
    data = "labelled images to validate on, without the people that any run was trained on; may be repeated "
    data += "(default: the people whom every run was validated on)"
    add("--data", type=Path, action="append", default=[], metavar="DIR", help=data)
    every = "average all runs, without choosing; if there is nobody to validate on, OUT has no metrics"
    add("--all", action="store_true", help=every)
    for add_option in (add_box_options, add_debug_option):
        add_option(parser)
    args = parser.parse_args()
    from data.images.crop import make_reader
    from data.runtime.files import write_folder_atomically
    from heads.average.runs import average_runs, check_alike, load_runs, select_held_out
    from heads.run.folder import RunFolder

    heads, people = load_runs(args.runs)
    check_alike(heads, None if args.boxes is None else args.box_margin)
    rows = select_held_out(heads, people, args.data, optional=args.all)
    with write_folder_atomically(args.out) as folder:
        average_runs(heads, people, rows, RunFolder(folder), make_reader(args.boxes, args.box_margin), args.all)
    print(args.out)


if __name__ == "__main__":
    run_script(main)
