"""The page beside exported weights: what they answer, how well, where they fail and under whose terms."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.runtime.files import write_text
from heads.build import TrainedHead
from heads.run.folder import RunFolder

UNKNOWN_TERMS = (
    "Not told by whoever exported this. Weights come under the terms of the images they were trained on "
    "and of the weights that they began from; ask before they are passed on or used commercially."
)
LIMITS = """- Figures are of people held out of the same data; other cameras, light and people give others.
- Made for images with one upright face that fills the image; a face in a scene must be cropped first.
- Groups that are rare in the data are answered worse: see the figures of each class.
- Gender and age are guesses from appearance. They tell neither identity nor anybody's documents, and are not
  fit for decisions about a person."""


def head_section(trained: TrainedHead) -> str:
    """One head's classes, origin and validation figures in Markdown; its run's files add to them."""
    config, run = trained.config, trained.run
    lines = [
        f"## {config.task}",
        "",
        f"- Classes: {', '.join(config.label.classes)}",
        f"- Network: {config.backbone.name}, begun from {Path(config.backbone.weights).name!r}",
        f"- Pixels: {json.dumps(config.pixels.evaluate)}; mean {config.pixels.mean}, std {config.pixels.std}",
        f"- Data: {_data(run, config.split.fold, config.split.folds)}",
        *_crops(trained.box_margin),
        "",
        "| figure | on validation |",
        "| --- | --- |",
    ]
    known = {
        key: trained.validation[key] for key in ("macro_f1", "accuracy", "mae") if key in trained.validation
    }
    lines += [f"| {key} | {value:.3f} |" for key, value in known.items()]
    for name, figures in _metrics(run).get("classes", {}).items():
        lines.append(f"| F1 of {name} ({figures['support']:g} images) | {figures['f1-score']:.3f} |")
    return "\n".join(lines)


def write_card(
    path: Path, name: str, interface: str, sections: Sequence[str], data: str | None, terms: str | None
) -> None:
    """Write a model card as Markdown.

    Args:
        path: of the page.
        name: of what was exported.
        interface: what goes in and what comes out.
        sections: one of each head, from `head_section`.
        data: what it was trained on, in the words of whoever exports.
        terms: the terms of that data, likewise; None says that nobody told.
    """
    parts = [f"# {name}", interface]
    parts += ["## Trained on\n\n" + data] if data else []
    parts += [*sections, f"## Limits\n\n{LIMITS}", f"## Terms\n\n{terms or UNKNOWN_TERMS}"]
    write_text(path, "\n\n".join(parts) + "\n")


def _crops(box_margin: float | None) -> list[str]:
    if box_margin is None:
        return []
    return [f"- Images: cropped to boxes of faces, with {box_margin:g} times the margin of docs/boxes.md"]


def _data(run: RunFolder, fold: int, folds: int) -> str:
    told = f"fold {fold} of {folds} held out by person"
    if run.validation.is_file():
        with np.load(run.validation) as saved:
            told += f": {len(saved['path'])} images of {len(np.unique(saved['person']))} people"
    return told


def _metrics(run: RunFolder) -> dict[str, Any]:
    if not run.metrics.is_file():
        return {}
    metrics: dict[str, Any] = json.loads(run.metrics.read_text(encoding="utf-8"))
    return metrics
