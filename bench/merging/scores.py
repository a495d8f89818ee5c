"""Trained heads on their validation images, in every view that is compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from data.audit.predictions import read_validation
from data.runtime.errors import raise_all
from data.runtime.processes import usable_workers
from ensemble.config import load_tasks
from ensemble.ensemble import Ensemble
from ensemble.inference.predictor import Predictor, build_task, load_batches
from ensemble.inference.views import make_views
from heads.build import TrainedHead
from heads.run.folder import find_trained_runs

JOINT_YAML = Path("configs/joint.yaml")
Array = npt.NDArray[np.float32]
BATCH = 128
SHIFTS = [{"shift": {"x": 0.04}}, {"shift": {"x": -0.04}}]
CROPS = [{"center_crop": {"share": 0.9}}]
LIGHTS = [{"brightness": {"factor": 1.2}}, {"brightness": {"factor": 0.8}}]
VIEW_SETS: dict[str, list[Any]] = {
    "identity": [],
    "hflip": ["hflip"],
    "hflip, shifts": ["hflip", *SHIFTS],
    "hflip, crop": ["hflip", *CROPS],
    "hflip, brightness": ["hflip", *LIGHTS],
    "all of these": ["hflip", *SHIFTS, *CROPS, *LIGHTS],
}
VIEWS = make_views(VIEW_SETS["all of these"])


@dataclass(frozen=True)
class ViewScores:
    """A task's heads on their validation images: probabilities [V, N, C] in the order of VIEWS, and labels [N]."""

    probabilities: Array
    truth: npt.NDArray[np.int64]
    person: npt.NDArray[np.str_]
    path: npt.NDArray[np.str_]

    def merged(self, steps: Sequence[Any]) -> Array:
        """Average probabilities [N, C] over the identity and the views `steps`."""
        names = list(VIEWS)
        mean: Array = self.probabilities[[names.index(name) for name in make_views(steps)]].mean(axis=0)
        return mean

    def select(self, rows: npt.NDArray[np.int64]) -> "ViewScores":
        """The same for some of the images."""
        return ViewScores(self.probabilities[:, rows], self.truth[rows], self.person[rows], self.path[rows])


def score_run(runs: Path) -> dict[str, ViewScores]:
    """Predict the validation images of each task's heads."""
    tasks = Ensemble.load(runs, JOINT_YAML).tasks
    return {name: pool([score_head(head) for head in task.heads]) for name, task in tasks.items()}


def score_head(head: TrainedHead) -> ViewScores:
    """Predict the validation images of a head in all VIEWS."""
    arrays = read_validation(head.run.validation)
    predictor = Predictor({"head": replace(build_task([head]), views=VIEWS)})
    task, paths = predictor.tasks["head"], arrays["path"].tolist()
    batches = load_batches(paths, predictor, BATCH, usable_workers(None))
    parts = []
    for batch in tqdm(batches, str(head.run.folder), ceil(len(paths) / BATCH), disable=None):
        with torch.inference_mode():
            logits = task.view_logits(predictor.to_device(batch)["head"])
            parts.append(task.probabilities(logits).cpu().numpy())
    return ViewScores(np.concatenate(parts, axis=1), arrays["truth"], arrays["person"], arrays["path"])


def pool(folds: Sequence[ViewScores]) -> ViewScores:
    """Concatenate the out-of-fold predictions of several folds."""
    labels = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("truth", "person", "path"))
    return ViewScores(np.concatenate([fold.probabilities for fold in folds], axis=1), *labels)


def select_shared(heads: Mapping[str, ViewScores]) -> list[ViewScores]:
    """Restrict the heads to the images that all of them have, in one order."""
    paths = sorted(set.intersection(*(set(head.path.tolist()) for head in heads.values())))
    orders = [dict(zip(head.path.tolist(), range(len(head.path)), strict=True)) for head in heads.values()]
    rows = [np.array([order[path] for path in paths]) for order in orders]
    return [head.select(each) for head, each in zip(heads.values(), rows, strict=True)]


def count_folds(runs: Sequence[Path]) -> dict[str, int]:
    """Count the folds of each task; raise InputError if the runs were validated on different people."""
    tasks = load_tasks(JOINT_YAML)
    labels = [{task: _labels(folder, task) for task in tasks} for folder in runs]
    raise_all(
        f"runs that are not seeds of one recipe, expected the folds and validation people of {runs[0]}",
        [
            f"{folder}: {task}"
            for folder, each in zip(runs, labels, strict=True)
            for task in tasks
            if each[task] != labels[0][task]
        ],
    )
    return {task: len(folds) for task, folds in labels[0].items()}


def _labels(runs: Path, task: str) -> list[list[tuple[str, int]]]:
    """Person and class of each validation image, for each fold."""
    folds = [read_validation(run.validation) for run in find_trained_runs(runs, task)]
    return [list(zip(each["person"].tolist(), each["truth"].tolist(), strict=True)) for each in folds]
