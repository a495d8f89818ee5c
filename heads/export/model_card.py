"""The model card of exported weights: inputs and outputs, validation figures, limits and terms."""

import json
from collections.abc import Sequence
from pathlib import Path

from data.audit.validation import read_validation
from data.runtime.files import write_text
from heads.export.graph import INPUT
from heads.load import TrainedHead

UNKNOWN_TERMS = (
    "Not stated. Weights come under the terms of the images they were trained on and of the initial weights; "
    "ask before they are passed on or used commercially."
)
LIMITS = """- Figures are of held-out people of the same data; other cameras, light and people give others.
- The input is an image with one upright face that fills it; a face in a scene must be cropped first.
- Groups that are rare in the data have worse figures: see the figures of each class.
- Gender and age are guesses from appearance. They are neither identity nor anybody's documents, and are not
  fit for decisions about a person."""


def describe_interface(kind: str, outputs: str) -> str:
    """Describe input and outputs for a model card; `kind` is a key of `heads.export.__main__.SUFFIXES`."""
    if kind == "safetensors":
        return "Weights with their config, for `heads.load.load_head`."
    return (
        f"Input: `{INPUT}` uint8 [n, height, width, 3], RGB, upright, any size. Output: {outputs}; rows of "
        "probabilities sum to 1. Scaling to the working size and normalisation are inside."
    )


def head_section(trained: TrainedHead) -> str:
    """One head's classes, origin and validation figures in Markdown, with those of its run's files."""
    config, run = trained.config, trained.run
    data = f"fold {config.split.fold} of {config.split.folds} held out by person"
    if run.validation.is_file():
        people = read_validation(run.validation)["person"].tolist()
        data += f": {len(people)} images of {len(set(people))} people"
    lines = [
        f"## {config.task}",
        "",
        f"- Classes: {', '.join(config.label.classes)}",
        f"- Network: {config.backbone.name}, initial weights {Path(config.backbone.weights).name!r}",
        f"- Pixels: {json.dumps(config.pixels.evaluate)}; mean {config.pixels.mean}, std {config.pixels.std}",
        f"- Data: {data}",
    ]
    if trained.temperature != 1:
        lines.append(
            f"- Probabilities: scaled by the temperature {trained.temperature:.3f}, fitted on validation people"
        )
    if trained.box_margin is not None:
        margin = f"{trained.box_margin:g} times the margin of docs/boxes.md"
        lines.append(f"- Images: cropped to boxes of faces, with {margin}")
    lines += ["", "| figure | on validation |", "| --- | --- |"]
    for key in ("macro_f1", "accuracy", "mae"):
        if key in trained.validation:
            lines.append(f"| {key} | {trained.validation[key]:.3f} |")
    if run.metrics.is_file():
        classes = json.loads(run.metrics.read_text(encoding="utf-8")).get("classes", {})
        for name, figures in classes.items():
            lines.append(f"| F1 of {name} ({figures['support']:g} images) | {figures['f1-score']:.3f} |")
    return "\n".join(lines)


def write_card(
    path: Path, name: str, interface: str, sections: Sequence[str], data: str | None, terms: str | None
) -> None:
    """Write a model card as Markdown, with one section per head (`head_section`).

    `data` and `terms` are the user's words about the training data and its terms; None: not stated.
    """
    parts = [f"# {name}", interface]
    parts += ["## Trained on\n\n" + data] if data else []
    parts += [*sections, f"## Limits\n\n{LIMITS}", f"## Terms\n\n{terms or UNKNOWN_TERMS}"]
    write_text(path, "\n\n".join(parts) + "\n")
