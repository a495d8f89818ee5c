"""Trained heads on the images that they were validated on, in every view that merging is judged with."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.dataset import ImageDataset, SequentialIndices, make_scaled_reader
from data.runtime.errors import raise_all
from data.runtime.processes import usable_workers
from data.transforms.pipeline import Pipeline
from ensemble.config import load_tasks
from ensemble.ensemble import crop_warning, find_checkpoints
from ensemble.inference.predictor import build_task
from ensemble.inference.views import ViewCache, make_views
from heads.build import load_head
from heads.run.folder import RunFolder

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


@dataclass(frozen=True)
class ViewScores:
    """A task's heads on their validation images: probabilities [N, C] by view, truth, person, path [N]."""

    views: dict[str, Array]
    truth: npt.NDArray[np.int64]
    person: npt.NDArray[np.str_]
    path: npt.NDArray[np.str_]

    def merged(self, steps: Sequence[Any]) -> Array:
        """Mean probabilities [N, C] over identity and `steps`."""
        mean: Array = np.mean([self.views[name] for name in make_views(steps)], axis=0)
        return mean

    def at(self, paths: Sequence[str]) -> "ViewScores":
        """The same head on some of its images, in their order."""
        places = {path: row for row, path in enumerate(self.path.tolist())}
        rows = np.array([places[path] for path in paths])
        views = {name: each[rows] for name, each in self.views.items()}
        return ViewScores(views, self.truth[rows], self.person[rows], self.path[rows])


def score_views(file: Path) -> ViewScores:
    """Run the head of a checkpoint over its validation images with every view of `VIEW_SETS`."""
    head = load_head(file)
    if (told := crop_warning(head.box_margin, None)) is not None:
        print(f"{file}: {told}", file=sys.stderr)
    with np.load(RunFolder(file.parent).validation) as arrays:
        truth, person, path = arrays["truth"], arrays["person"], arrays["path"]
    views = head.config.views.model_copy(update={"steps": VIEW_SETS["all of these"]})
    shown = build_task([replace(head, config=head.config.model_copy(update={"views": views}))])
    pipelines = [Pipeline(head.config.pixels.evaluate)]
    images = ImageDataset(path.tolist(), pipelines, read=make_scaled_reader(pipelines))
    loader = DataLoader(images, BATCH, sampler=SequentialIndices(len(images)), num_workers=usable_workers(None))
    parts = []
    for batch in tqdm(loader, str(file.parent), disable=None):
        with torch.inference_mode():
            parts.append(shown.probabilities(shown.view_logits(ViewCache(batch.pixels[0]))).numpy())
    return ViewScores(dict(zip(shown.views, np.concatenate(parts, axis=1), strict=True)), truth, person, path)


def pooled(folds: Sequence[ViewScores]) -> ViewScores:
    """What several folds answered, one after the other: out-of-fold probabilities of all their people."""
    views = {name: np.concatenate([fold.views[name] for fold in folds]) for name in folds[0].views}
    truth, person, path = (
        np.concatenate([getattr(fold, name) for fold in folds]) for name in ("truth", "person", "path")
    )
    return ViewScores(views, truth, person, path)


def shared(heads: Mapping[str, ViewScores]) -> list[ViewScores]:
    """The heads on the images that all of them have, in one order."""
    paths = sorted(set.intersection(*(set(head.path.tolist()) for head in heads.values())))
    return [head.at(paths) for head in heads.values()]


def score_run(runs: Path) -> dict[str, ViewScores]:
    """The heads of each task on all that their folds were validated on."""
    files = find_checkpoints(runs, load_tasks(JOINT_YAML))
    return {task: pooled([score_views(file) for file in found]) for task, found in files.items()}


def check_alike(runs: Sequence[Path]) -> list[int]:
    """How many folds each task has; InputError where runs were not validated on the same people."""
    named = [find_checkpoints(folder, load_tasks(JOINT_YAML)) for folder in runs]
    asked = [{task: list(map(_asked, files)) for task, files in each.items()} for each in named]
    raise_all(
        f"runs that are not seeds of one recipe, expected the folds and validation people of {runs[0]}",
        [
            f"{folder}: {task}"
            for folder, each in zip(runs, asked, strict=True)
            for task, people in each.items()
            if people != asked[0][task]
        ],
    )
    return [len(files) for files in named[0].values()]


def _asked(file: Path) -> list[tuple[str, int]]:
    """The person and class of each image that the head of a checkpoint was validated on."""
    with np.load(RunFolder(file.parent).validation) as arrays:
        return list(zip(arrays["person"].tolist(), arrays["truth"].tolist(), strict=True))
