"""A run's unfinished state: written after an epoch or in the middle of one, and gone on from."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from data.annotations.table import source_folder
from data.images.crop import CroppedReader
from data.runtime.errors import InputError, raise_all
from heads.config.loader import read_stored_config
from heads.config.task import TaskConfig
from heads.objective.targets import Target
from heads.run.checkpoint import load_state, read_description, save_state
from heads.run.folder import RunFolder
from heads.train.progress import Progress
from heads.train.state import TrainState

# What may differ when a run goes on: it changes how fast a run is, not what comes out of it.
FREE_KEYS = ("training.workers",)
# What must not differ beside the config, by its key in the state: the words of messages.
FINGERPRINTS = {
    "train": "images to train on and their labels, in order (--data, corrections)",
    "validation": "images to validate on and their labels, in order (--data, corrections)",
    "boxes": "--boxes, as they crop these images",
    "box_margin": "--box-margin",
    "kept": "--cache, whose copies have the working size",
    "frozen": "frozen part of the backbone that training.feature_views are made with (backbone.weights)",
}


def position(learner: TrainState, run: RunFolder) -> str:
    """Where a run stands, for the user."""
    steps = learner.progress.steps
    within = f" and {steps} of {learner.steps_per_epoch} steps" if steps else ""
    return f"epoch {len(learner.history)}{within} of {run.folder}"


def fingerprint_data(
    train: pd.DataFrame,
    valid: pd.DataFrame,
    target: Target,
    crops: CroppedReader | None,
    kept: bool,
    frozen: str | None,
) -> dict[str, str | None]:
    """What a run learns from, a text for each of `FINGERPRINTS`: equal where it may be gone on with.

    Paths count from their source's folder, so that a run goes on after its data were moved.

    Args:
        train: the labelled rows to train on, of `data.annotations.table.read_table`.
        valid: those to validate on.
        target: whose columns are the labels.
        crops: what crops their images; None: they are shown whole.
        kept: whether they are copies at the working size.
        frozen: checksum of the frozen part of the backbone where features are kept in position of images.
    """
    marks = {"train": _rows_mark(train, target), "validation": _rows_mark(valid, target), "frozen": frozen}
    marks["kept"] = "copies" if kept else None
    if crops is None:
        return {**marks, "boxes": None, "box_margin": None}
    paths = [os.path.abspath(path) for path in (*train["path"], *valid["path"])]  # noqa: PTH100 (links stay)
    used = [found[0][:4] if (found := crops.boxes.get(path)) else None for path in paths]
    cropped = sum(box is not None for box in used)
    return {**marks, "boxes": f"{cropped} cropped ({_digest(used)})", "box_margin": f"{crops.margin:g}"}


def _rows_mark(rows: pd.DataFrame, target: Target) -> str:
    folders = {source: f"{source_folder(Path(source))}{os.sep}" for source in rows["source"].unique()}
    places = [
        path.removeprefix(folders[source]) for source, path in zip(rows["source"], rows["path"], strict=True)
    ]
    columns = [part.column for part in target.parts] or [target.column]
    return f"{len(rows)} ({_digest(zip(places, *(rows[name].astype(str) for name in columns), strict=True))})"


def _digest(values: Iterable[Any]) -> str:
    """The beginning of the SHA-256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def save_run_state(
    path: Path, learner: TrainState, config: TaskConfig, marks: Mapping[str, str | None]
) -> None:
    """Write all that `load_run_state` needs to one file; `marks` are those of `fingerprint_data`."""
    description = {
        "history": learner.history,
        "progress": vars(learner.progress),
        "steps_per_epoch": learner.steps_per_epoch,
        "config": config.model_dump(),
        "marks": dict(marks),
    }
    save_state(path, learner.modules, learner.optimiser, learner.schedule, description)


def load_run_state(
    run: RunFolder, learner: TrainState, config: TaskConfig, marks: Mapping[str, str | None]
) -> bool:
    """Put the run's state into `learner`, in position; returns whether there was one.

    A state from before there were marks is gone on with whatever they are.

    Raises:
        InputError: it began under another config or with other marks, or its file is damaged.
    """
    # Where both are there, the interrupted state is the later one, or within the epoch that is done again.
    path = run.interrupted if run.interrupted.is_file() else run.last
    if not path.is_file():
        return False
    _check_same_run(path, run, config, marks)
    try:
        description = load_state(path, learner.modules, learner.optimiser, learner.schedule)
        learner.history[:] = [dict(record) for record in description["history"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: no unfinished run ({error}); start it without --resume") from None
    if description.get("steps_per_epoch") != learner.steps_per_epoch:
        raise InputError(
            f"{run.folder}: began with {description.get('steps_per_epoch')} steps an epoch, found "
            f"{learner.steps_per_epoch}; give the same --data as before, or start without --resume"
        )
    learner.progress = Progress.from_json(description.get("progress", vars(Progress())))
    return True


def _check_same_run(path: Path, run: RunFolder, config: TaskConfig, marks: Mapping[str, str | None]) -> None:
    try:
        description = read_description(path)["description"]
        stored, marked = description["config"], dict(description.get("marks", {}))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{path}: holds no unfinished run; start it without --resume") from None
    before = _flat(read_stored_config(TaskConfig, stored, str(path)).model_dump())
    now = _flat(config.model_dump())
    raise_all(
        f"{run.folder}: began under another config; repeat its settings, or start without --resume",
        [
            f"{key}: found {now.get(key)!r}, expected {before.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key not in FREE_KEYS
        ],
    )
    raise_all(
        f"{run.folder}: began with other images or weights; give the same ones, or start without --resume",
        [
            f"{told}: found {marks.get(key) or 'none'}, expected {marked[key] or 'none'}"
            for key, told in FINGERPRINTS.items()
            if key in marked and marked[key] != marks.get(key)
        ],
    )


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots.

    >>> _flat({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
