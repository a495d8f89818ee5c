"""Score one task's heads on labelled people whom nothing was trained or chosen on.

python -m bench.held_out --runs RUNS --task gender --data OUT/held_out --by csv_source

Folds and test-time views are averaged as in `combine.py`. `python -m bench.holdout` makes such a folder.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.runtime.errors import InputError, add_debug_option, run_script, whole_number_from
from heads.objective.metrics import compute_metrics

if TYPE_CHECKING:  # functions import these late, for --help
    import pandas as pd

    from ensemble.files.predictions import TaskOutput
    from ensemble.inference.predictor import Task


def predict_task(task: "Task", paths: list[Path], workers: int = 0) -> "TaskOutput":
    """Predict images with the heads of one task."""
    from ensemble import Ensemble

    return Ensemble({"task": task}, workers=workers).predict(paths).tasks["task"]


def score_table(task: "Task", rows: "pd.DataFrame", output: "TaskOutput", by: str | None) -> str:
    """Write a Markdown table: all rows, then those of each value of the column `by`."""
    from bench.markdown import table

    truth = task.target.class_indices(rows)
    numbers = task.target.values(rows).numpy() if task.predicts_number else None
    groups = {"all": np.ones(len(rows), dtype=bool)}
    if by is not None:
        values = sorted(rows[by].dropna().unique())
        groups |= {f"{by} {value}": (rows[by] == value).to_numpy() for value in values}
    lines = []
    for name, group in groups.items():
        expected, right = (None if each is None else each[group] for each in (output.value, numbers))
        metrics = compute_metrics(output.probabilities[group], truth[group], expected, right)
        lines.append([name, str(group.sum()), *(f"{value:.3f}" for value in metrics.values())])
    return table(["people held out", "images", *metrics], lines)


def main() -> None:
    """Load heads and labels, predict, print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.held_out", description="Score one task's heads.")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--task", required=True, metavar="NAME")
    parser.add_argument("--data", type=Path, required=True, action="append", metavar="DIR")
    parser.add_argument("--by", metavar="COLUMN", help="a row of the table for each of its values")
    parser.add_argument("--workers", type=whole_number_from(0), default=1)
    add_debug_option(parser)
    args = parser.parse_args()
    from data.annotations.table import read_table
    from ensemble.inference.load import load_task_heads

    task = load_task_heads(args.runs, {args.task: None})[args.task]
    rows = task.target.select_rows(read_table(args.data))
    if args.by is not None and args.by not in rows:
        raise InputError(f"--by {args.by}: no such column, expected one of {', '.join(map(str, rows))}")
    output = predict_task(task, [Path(path) for path in rows["path"]], args.workers)
    print(score_table(task, rows, output, args.by))


if __name__ == "__main__":
    run_script(main)
