"""Predictions of trained heads on their validation images in several views, and macro F1 of sets of views."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from bench.markdown import spread, table
from bench.validation import Arrays, concat, read_predictions
from data.runtime.errors import raise_all
from data.runtime.processes import usable_workers
from data.transforms.views import make_views
from ensemble.inference.load import load_tasks
from ensemble.inference.predictor import Predictor, build_task, load_batches
from heads.load import TrainedHead
from heads.objective.metrics import macro_f1

JOINT_YAML = Path("configs/joint.yaml")
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


def predict_runs(folders: Sequence[Path]) -> list[dict[str, Arrays]]:
    """Predict the validation images of each task's heads in all VIEWS, out of fold, for each folder of runs.

    Raises:
        InputError: heads are missing, or the runs were validated on different people.
    """
    runs = []
    for folder in folders:
        tasks = load_tasks(folder, JOINT_YAML)
        heads = {name: concat([predict_validation(head) for head in task.heads]) for name, task in tasks.items()}
        runs.append(heads)
    different = [
        f"{folder}: {task}"
        for folder, heads in zip(folders, runs, strict=True)
        for task, head in heads.items()
        if not all(np.array_equal(head[name], runs[0][task][name]) for name in ("person", "truth"))
    ]
    raise_all(f"runs that are not seeds of one recipe, expected the validation people of {folders[0]}", different)
    return runs


def predict_validation(head: TrainedHead) -> Arrays:
    """Predict the validation images of a head: `bench.validation` with probabilities [N, V, C] in all VIEWS."""
    arrays = read_predictions(head.run)
    predictor = Predictor({"head": replace(build_task([head]), views=VIEWS)})
    task, paths = predictor.tasks["head"], arrays["path"].tolist()
    batches = load_batches(paths, predictor.pipelines, BATCH, usable_workers(None))
    parts = []
    for batch in tqdm(batches, str(head.run.folder), ceil(len(paths) / BATCH), disable=None):
        with torch.inference_mode():
            logits = task.view_logits(predictor.to_device(batch)["head"])
            parts.append(task.probabilities(logits).transpose(0, 1).cpu().numpy())
    return arrays | {"probabilities": np.concatenate(parts)}


def merge_views(arrays: Arrays, steps: Sequence[Any]) -> npt.NDArray[np.float32]:
    """Average probabilities [N, C] over the identity and the views `steps`."""
    places = [list(VIEWS).index(name) for name in make_views(steps)]
    mean: npt.NDArray[np.float32] = arrays["probabilities"][:, places].mean(axis=1)
    return mean


def view_table(runs: Sequence[Mapping[str, Arrays]]) -> str:
    """Write macro F1 of each task's heads by set of views, over runs, and the difference from the identity."""
    titles = [f"{task}, {len(head['truth'])} images" for task, head in runs[0].items()]
    rows = []
    for name, steps in VIEW_SETS.items():
        cells = []
        for task in runs[0]:
            scores, plain = (_scores([run[task] for run in runs], each) for each in (steps, []))
            difference = spread(pd.Series([(scores - plain).mean()]), 3, "+")
            cells.append(spread(scores, 3) + (f" ({difference})" if steps else ""))
        rows.append([name, *cells])
    return table(["views", *titles], rows)


def _scores(heads: Sequence[Arrays], steps: Sequence[Any]) -> pd.Series:
    """Macro F1 of each head with the identity and `steps`."""
    pairs = [(head["truth"], merge_views(head, steps)) for head in heads]
    return pd.Series([macro_f1(truth, mean.argmax(axis=1), mean.shape[1]) for truth, mean in pairs])
