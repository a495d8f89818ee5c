"""Runs of the heads: training history, temperatures, and their validation predictions as an `Evaluation`."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import pandas as pd

from data.audit.validation import read_validation
from data.runtime.errors import InputError, raise_all
from ensemble.files.predictions import TaskOutput
from ensemble.joint import argmax, encode, numeric_borders
from ensemble.report.load.evaluation import Evaluation, NumericLabel
from heads.config.task import Label
from heads.load import get_temperature
from heads.objective.calibration import fit_temperature
from heads.run.checkpoint import read_description
from heads.run.folder import RunFolder, find_trained_runs, run_folder

# What metrics.json has of the best epoch.
BEST = ("macro_f1", "accuracy", "mae", "calibration_error", "calibration_error_scaled", "epoch")
NAME = "validation"  # of the heads' validation predictions, where a submission has its path


@dataclass(frozen=True)
class TrainingRun:
    """One run of one head; `name` is the task, with the fold if there are several.

    `history` has the metrics of each epoch by column, "epoch" among them, and `best` those of the best epoch.
    `minutes` (of training) may be None and `machine` empty: early runs did not record them.
    """

    name: str
    history: dict[str, list[float]]
    config: str
    minutes: float | None
    versions: dict[str, str]
    machine: dict[str, str]
    best: dict[str, float]


def find_task_runs(runs: Path, task: str) -> list[RunFolder]:
    """Find the runs of a task's heads, as combine.py does; InputError if there is none."""
    found = find_trained_runs(runs, task)
    if not found:
        missing = run_folder(runs, task).best
        raise InputError(f"{missing}: no such file, expected the run of {task}; name another folder by --runs")
    return found


def read_run(run: RunFolder, runs: Path) -> TrainingRun:
    """Read the history, config and description of a run in `runs`; InputError if a file cannot be read."""
    description = read_description(run.best)
    try:
        history = pd.read_csv(run.history).astype(float)
        config = run.config.read_text(encoding="utf-8")
        metrics = _read_metrics(run)
        best = {key: float(metrics[key]) for key in BEST if key in metrics}
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{run.folder}: cannot be read ({error}), expected a run of train_task.py") from None
    return TrainingRun(
        str(run.folder.relative_to(runs)),
        {str(column): values.tolist() for column, values in history.items()},
        config,
        metrics.get("minutes"),
        description.get("versions", {}),
        description.get("machine", {}),
        best,
    )


def _read_metrics(run: RunFolder) -> dict[str, Any]:
    """Read a run's metrics.json, empty if it has none; OSError, ValueError or TypeError if it cannot be read."""
    metrics: dict[str, Any] = json.loads(run.metrics.read_bytes()) if run.metrics.is_file() else {}
    if not isinstance(metrics, dict):
        raise TypeError(f"{run.metrics.name} is not a mapping")
    return metrics


def validation_temperature(runs: list[RunFolder], label: Label) -> float:
    """Temperature fitted to the validation predictions of a task's runs, never to the data that is evaluated.

    Of runs without such predictions, as an average of all folds or saved heads are, the geometric mean of the
    checkpoints' temperatures is taken. InputError if the runs have other classes or borders than `label`.
    """
    if not any(run.validation.is_file() for run in runs):
        return geometric_mean([get_temperature(read_description(run.best), run.best) for run in runs])
    table = pd.concat([_read_table(run, label) for run in runs])
    return fit_temperature(np.stack(table["probabilities"].tolist()), table["truth"].to_numpy())


@pd.option_context("mode.string_storage", "python")  # Arrow's strings hold no names that are not UTF-8
def load_validation(runs: Path, labels: Mapping[str, Label]) -> tuple[Evaluation, list[TrainingRun], list[str]]:
    """Load the validation predictions of the heads in `runs`: (evaluation, runs, notes for the reader).

    Each image is predicted in one view, by the fold that was not trained on its person; images that only some
    of the tasks validated on are left out.

    Args:
        runs: folder of the heads' runs.
        labels: of each task of the joint code, the most significant digit first.

    Raises:
        InputError: runs that are missing, of other classes, or without a common image.
    """
    folders = {task: find_task_runs(runs, task) for task in labels}
    tables = {task: pd.concat([_read_table(run, labels[task]) for run in folders[task]]) for task in labels}
    twice = {task: table.index[table.index.duplicated()] for task, table in tables.items()}
    raise_all(
        f"{runs}: images in the validation sets of two folds, expected folds of one split",
        [f"{task}: {len(paths)} of them, such as {paths[0]}" for task, paths in twice.items() if len(paths)],
    )
    paths = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    if not paths:
        raise InputError(
            f"{runs}: no image is in the validation sets of {', '.join(tables)}; expected heads trained "
            "on the same people with the same split"
        )
    tables = {task: table.loc[paths] for task, table in tables.items()}
    outputs = {task: TaskOutput(np.stack(table["probabilities"].tolist())) for task, table in tables.items()}
    truth = encode([t["truth"].to_numpy() for t in tables.values()], [len(each.classes) for each in labels.values()])
    people = tables[next(iter(labels))]["person"].to_numpy(str)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    numbers = []
    for column, borders in numeric_borders(labels).items():
        values = (tables[task]["value"].to_numpy(np.float64) for task in borders)
        known = next((each for each in values if not np.isnan(each).all()), None)
        numbers += [] if known is None else [NumericLabel(column, borders, known)]
    evaluation = Evaluation(
        {task: label.classes for task, label in labels.items()},
        [os.path.relpath(path, folder) for path in paths],
        truth,
        {NAME: argmax([output.probabilities for output in outputs.values()])},
        people,
        numbers,
        outputs,
    )
    note = (
        f"{len(paths)} images of {len(np.unique(people))} people, below {folder}: all heads were validated on "
        "them, in one view, and the best epochs were chosen on them."
    )
    return evaluation, [read_run(run, runs) for found in folders.values() for run in found], [note]


def _read_table(run: RunFolder, label: Label) -> pd.DataFrame:
    """Read a run's validation predictions: truth, probabilities, person and value (NaN: unknown), by path."""
    arrays = read_validation(run.validation)
    for key, expected in (("classes", label.classes), ("borders", label.borders or [])):
        found = arrays[key].tolist()
        if found != expected:
            raise InputError(f"{run.validation}: found the {key} {found}, expected {expected} as in the config")
    columns = {name: arrays[name].tolist() for name in ("truth", "person")}
    columns["probabilities"] = list(arrays["probabilities"].astype(np.float32))
    columns["value"] = arrays.get("value", np.nan)
    return pd.DataFrame(columns, index=arrays["path"].tolist())
