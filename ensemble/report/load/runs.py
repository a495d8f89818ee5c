"""What run folders tell of the heads: how training went, from which config, with what, where and how long."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.runtime.errors import InputError
from ensemble.files.predictions import read_arrays
from ensemble.metrics.calibration import fit_temperature
from heads.run.checkpoint import read_description
from heads.run.folder import RunFolder, find_trained_runs, run_folder


@dataclass(frozen=True)
class TrainingRun:
    """One run of one head.

    Attributes:
        name: the task, and the fold where several stand side by side.
        history: figures of each epoch by column, "epoch" among them.
        config: the resolved YAML as text.
        minutes: of training, all epochs together.
        versions: of packages.
        machine: what it was trained on, by kind; empty for a run that did not note it.
        best: figures of the epoch that was kept.
    """

    name: str
    history: dict[str, list[float]]
    config: str
    minutes: float | None
    versions: dict[str, str]
    machine: dict[str, str]
    best: dict[str, float]


def find_task_runs(runs: Path, task: str) -> list[RunFolder]:
    """The runs of a task's heads, as combine.py takes them; InputError where there is none."""
    found = find_trained_runs(runs, task)
    if not found:
        missing = run_folder(runs, task).best
        raise InputError(f"{missing}: no such file, expected the run of {task}; name another folder by --runs")
    return found


def read_run(run: RunFolder, name: str) -> TrainingRun:
    """What `run` tells; InputError for a folder whose files cannot be read."""
    described = read_description(run.best)
    try:
        history = pd.read_csv(run.history).astype(float)
        config = run.config.read_text(encoding="utf-8")
        metrics: dict[str, Any] = (
            json.loads(run.metrics.read_text(encoding="utf-8")) if run.metrics.is_file() else {}
        )
        if not isinstance(metrics, dict):
            raise TypeError(f"{run.metrics.name} holds no figures by name")
        figures = {str(k): float(metrics[k]) for k in ("macro_f1", "accuracy", "mae", "epoch") if k in metrics}
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{run.folder}: cannot be read ({error}), expected a run of train_task.py") from None
    return TrainingRun(
        name,
        {str(column): history[column].tolist() for column in history.columns},
        config,
        metrics.get("minutes"),
        described.get("versions", {}),
        described.get("machine", {}),
        figures,
    )


def validation_temperature(runs: list[RunFolder]) -> float:
    """The temperature fitted to what these runs said of those they were validated on, not to the answers."""
    probabilities: list[npt.NDArray[np.float32]] = []
    truth: list[npt.NDArray[np.int64]] = []
    for run in runs:
        arrays = read_arrays(run.validation, "what train_task.py wrote; train it again, or leave out --runs")
        if not {"probabilities", "truth"} <= arrays.keys():
            raise InputError(f"{run.validation}: holds {', '.join(arrays)}; expected probabilities and truth")
        probabilities.append(arrays["probabilities"])
        truth.append(arrays["truth"])
    return fit_temperature(np.concatenate(probabilities), np.concatenate(truth))
