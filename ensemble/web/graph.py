"""The page's graph: every task from one image, in as many views as asked for, and its description."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.boxes import detector
from data.images.crop import ABOVE, BELOW, BESIDE
from data.images.decode import MAX_BYTES, MAX_PIXELS
from data.transforms.face_geometry import SQUARE, face_shares
from ensemble.export.graph import DISTRIBUTION, MAPS, EnsembleGraph, output_shapes
from ensemble.files.predictions import NUMBER
from ensemble.inference.predictor import Task
from ensemble.metrics.scores import JOINT
from heads.export.graph import write_onnx
from heads.export.letterbox import crop_margin
from heads.model.fusion import fuse_batch_norm

VIEWS = "views"


def write_graph(path: Path, tasks: Mapping[str, Task]) -> None:
    """Write the ensemble with activation maps and the input `views`, int64 [K]; batch norm is fused."""
    fused = {
        name: replace(task, heads=[replace(each, head=fuse_batch_norm(each.head)) for each in task.heads])
        for name, task in tasks.items()
    }
    outputs = [*output_shapes(fused, maps=True)]
    write_onnx(path, EnsembleGraph(fused, maps=True), outputs, vectors={VIEWS: torch.arange(5)})


def count_views(tasks: Mapping[str, Task]) -> int:
    """Number of views after which each task has used all of its own."""
    return max(len(task.views) for task in tasks.values())


def describe_crop(margin: float | None) -> dict[str, Any] | None:
    """Describe which part of an image a head sees after an `aligned_crop` of this margin, as JSON for the page."""
    if margin is None:
        return None
    close, tall = face_shares(margin)
    return {"square": SQUARE, "close": close, "tall": tall}


def describe_graph(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Describe tasks, outputs and the crop around a face, as JSON for the page."""
    outputs = output_shapes(tasks, maps=True)
    margins = [task.heads[0].box_margin for task in tasks.values()]
    margin = max((each for each in margins if each is not None), default=1.0)
    return {
        "tasks": [
            {
                "name": name,
                "classes": task.classes,
                "borders": task.target.borders or [],
                "range": task.target.numbers,
                "outputs": {k: f"{name}_{k}" for k in (NUMBER, DISTRIBUTION, MAPS) if f"{name}_{k}" in outputs},
                "scaling": task.heads[0].config.pixels.evaluate[-1],
                "crop": describe_crop(crop_margin(task.heads[0].config.pixels.evaluate)),
            }
            for name, task in tasks.items()
        ],
        "joint": JOINT,
        "views": count_views(tasks),
        "margins": {"above": margin * ABOVE, "below": margin * BELOW, "beside": margin * BESIDE},
        "limits": {"bytes": MAX_BYTES, "pixels": MAX_PIXELS},
        "detector": {
            **{"stride": detector.STRIDE, "longest": detector.LONGEST, "overlap": detector.OVERLAP},
            "threshold": detector.CenterFace(Path()).threshold,
        },
    }
