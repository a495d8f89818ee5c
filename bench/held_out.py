"""Score one task's heads on labelled people whom nothing was trained or chosen on.

python -m bench.held_out --runs RUNS --task gender --data OUT/held_out --by csv_source

Folds and test-time views are averaged as `combine.py` does. `python -m bench.holdout` makes such a folder.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from data.annotations.table import read_table
from data.dataset import ImageDataset, SequentialIndices, make_scaled_reader
from data.runtime.errors import InputError, add_debug_option, run_script, whole_number_from
from data.transforms.pipeline import Pipeline
from ensemble.ensemble import load_task_heads
from ensemble.inference.predictor import Task, mean_number
from ensemble.inference.views import MERGES, ViewCache
from heads.train.validation import Predictions, compute_metrics

BATCH = 64


def predict_views(task: Task, paths: list[Path], workers: int) -> Predictions:
    """A task's merged probabilities [N, C]; where it predicts numbers, their mean over folds and views [N]."""
    probabilities, expected = [], []
    pipelines = [Pipeline(task.heads[0].config.pixels.evaluate)]
    images = ImageDataset(paths, pipelines, read=make_scaled_reader(pipelines))
    for batch in DataLoader(images, BATCH, sampler=SequentialIndices(len(paths)), num_workers=workers):
        with torch.inference_mode():
            logits = task.view_logits(ViewCache(batch.pixels[0]))
            probabilities.append(MERGES[task.merge](task.probabilities(logits)).numpy())
            number = mean_number(task.numbers(logits))
            expected += [] if number is None else [number]
    return Predictions(np.concatenate(probabilities), np.concatenate(expected) if expected else None)


def table_of(task: Task, rows: pd.DataFrame, predictions: Predictions, by: str | None) -> str:
    """A Markdown table: all rows, then those of each value of the column `by`."""
    target = task.target
    truth = target.class_indices(rows)
    values = target.values(rows).numpy() if target.numbers is not None else None
    groups = {"all": np.ones(len(rows), dtype=bool)}
    if by is not None:
        groups |= {
            f"{by} {value}": (rows[by] == value).to_numpy() for value in sorted(rows[by].dropna().unique())
        }
    lines: list[str] = []
    for name, mine in groups.items():
        expected = None if predictions.expected is None else predictions.expected[mine]
        part = Predictions(predictions.probabilities[mine], expected)
        found = compute_metrics(part, truth[mine], None if values is None else values[mine])
        if not lines:
            lines += [
                f"| people held out | images | {' | '.join(found)} |",
                "| --- |" + " --- |" * (1 + len(found)),
            ]
        lines.append(f"| {name} | {mine.sum()} | {' | '.join(f'{value:.3f}' for value in found.values())} |")
    return "\n".join(lines)


def main() -> None:
    """Read heads and labels, answer, print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.held_out", description="Score one task's heads.")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--task", required=True, metavar="NAME")
    parser.add_argument("--data", type=Path, required=True, action="append", metavar="DIR")
    parser.add_argument("--by", metavar="COLUMN", help="a row of the table for each of its values")
    parser.add_argument("--workers", type=whole_number_from(0), default=1)
    add_debug_option(parser)
    args = parser.parse_args()
    task = load_task_heads(args.runs, {args.task: None})[args.task]
    rows = task.target.select_rows(read_table(args.data))
    if args.by is not None and args.by not in rows:
        raise InputError(f"--by {args.by}: no such column, expected one of {', '.join(map(str, rows))}")
    predictions = predict_views(task, [Path(path) for path in rows["path"]], args.workers)
    print(table_of(task, rows, predictions, args.by))


if __name__ == "__main__":
    run_script(main)
