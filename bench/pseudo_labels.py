"""Labels that trained heads give to photographs without any, as a folder to train on beside labelled ones.

python -m bench.pseudo_labels --runs RUNS --task age gender --data path/to/unlabelled --out OUT --least 0.9

Labels that the photographs have are not looked at. OUT then is a data folder for `--data`, with those
photographs of which a head at least is sure (Lee 2013, ICML workshop on challenges in representation learning).
"""

import argparse
import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.held_out import predict_views
from data.annotations.table import LABELS_FILE, read_table
from data.runtime.errors import InputError, add_debug_option, run_script, whole_number_from
from data.runtime.files import write_folder_atomically
from ensemble.ensemble import load_task_heads
from ensemble.inference.predictor import Task
from heads.train.validation import Predictions


def labels_of(task: Task, predictions: Predictions, least: float) -> list[str]:
    """A label for each photograph, as a labels.csv has it; empty where no class is as likely as `least`.

    Where the task predicts years, the label is their mean, rounded.

    Raises:
        InputError: the task cuts years into classes without predicting years.
    """
    label = task.heads[0].config.label
    if label.borders is not None and predictions.expected is None:
        raise InputError(f"{label.column}: a class is no label, expected a head with label.distribution")
    sure = predictions.probabilities.max(axis=1) >= least
    if predictions.expected is None:
        told = [label.classes[index] for index in predictions.probabilities.argmax(axis=1)]
    else:
        told = [str(round(float(years))) for years in predictions.expected]
    return [text if its else "" for text, its in zip(told, sure, strict=True)]


def write_folder(
    paths: Sequence[Path], people: Sequence[str], labels: Mapping[str, Sequence[str]], out: Path
) -> int:
    """Write `out`/images and `out`/labels.csv, of the photographs with a label at least; returns how many."""
    rows = [["path", "person", *labels]]
    with write_folder_atomically(out) as whole:
        (whole / "images").mkdir()
        for number, (path, person, *told) in enumerate(zip(paths, people, *labels.values(), strict=True)):
            if any(told):
                name = f"{number:06}{path.suffix}"
                shutil.copyfile(path, whole / "images" / name)
                rows.append([name, person, *told])
        with (whole / LABELS_FILE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return len(rows) - 1


def main() -> None:
    """Read photographs, answer, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.pseudo_labels", description="Labels by heads.")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--task", required=True, nargs="+", metavar="NAME")
    parser.add_argument(
        "--data", type=Path, required=True, action="append", metavar="DIR", help="as train_task.py's"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="a new or an empty folder")
    parser.add_argument("--least", type=float, default=0.9, help="probability of a class (%(default)s)")
    parser.add_argument("--workers", type=whole_number_from(0), default=1)
    add_debug_option(parser)
    args = parser.parse_args()
    if not 0 <= args.least <= 1:
        raise InputError(f"--least {args.least}: expected a probability, 0..1")
    tasks = load_task_heads(args.runs, dict.fromkeys(args.task))
    table = read_table(args.data)
    paths = [Path(path) for path in table["path"]]
    labels = {}
    for name, task in tasks.items():
        column = task.heads[0].config.label.column or name
        labels[column] = labels_of(task, predict_views(task, paths, args.workers), args.least)
        print(f"{name}: sure of {sum(map(bool, labels[column]))} of {len(paths)} photographs")
    count = write_folder(paths, table["person"].tolist(), labels, args.out)
    print(f"{args.out}: {count} photographs, labels in {args.out / LABELS_FILE}")


if __name__ == "__main__":
    run_script(main)
