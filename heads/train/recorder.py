"""Record of a run in its folder: the best head, history and metrics, and the state that a run resumes from."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate.tracking import TensorBoardTracker
from sklearn.metrics import classification_report

from data.annotations.table import source_folder
from data.images.crop import CroppedReader
from data.runtime.errors import InputError, raise_all
from data.runtime.files import remove_unfinished, write_text
from heads.config.loader import dump_yaml, read_stored_config
from heads.config.task import TaskConfig
from heads.objective.targets import Target
from heads.run.checkpoint import load_state, read_description, save_state
from heads.run.folder import RunFolder, save_head, write_arrays, write_history, write_json
from heads.run.manifest import write_manifest
from heads.train.loop import ValidationOutput
from heads.train.state import EpochProgress, TrainState

# Keys that may change on resume: they affect a run's speed, not its result.
FREE_KEYS = ("training.workers",)
# What must not change beside the config: keys in the state, and words for messages.
FINGERPRINTS = {
    "train": "images to train on and their labels, in order (--data, corrections)",
    "validation": "images to validate on and their labels, in order (--data, corrections)",
    "boxes": "--boxes, as they crop these images",
    "box_margin": "--box-margin",
    "kept": "--cache, whose copies have the working size",
    "frozen": "frozen backbone that training.feature_views are computed with (backbone.weights)",
}
Fingerprints = Mapping[str, str | None]


class RunRecorder:
    """Writes one run's folder; its methods are called by `heads.train.loop.fit`.

    Args:
        run: the folder.
        config: resolved; a run resumes only with the config that it started with.
        fingerprints: see `fingerprint_data`.
        validation: arrays of validation.npz that describe the validation set, by name.
        box_margin: margin of the boxes that images are cropped to; None: they stay whole.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Mapping[str, Any],
        fingerprints: Fingerprints,
        validation: Mapping[str, Any],
        box_margin: float | None = None,
    ) -> None:
        self.run, self.config, self.fingerprints = run, config, fingerprints
        self.validation, self.box_margin = validation, box_margin
        self.tracker: TensorBoardTracker | None = None

    def resume(self, state: TrainState) -> None:
        """Restore the state of an interrupted run, within an epoch or after one, if there is any."""
        if load_run_state(self.run, state, self.config, self.fingerprints):
            print(f"resuming after {position(state, self.run)}")

    def after_epoch(self, state: TrainState, output: ValidationOutput | None, is_best: bool) -> None:
        """Write the head if it is the best, then the state, then the files for the user.

        A run that is killed in between resumes from the state before and writes the same best head again.
        """
        record, first = state.history[-1], len(state.history) == 1
        if self.tracker is None:  # not before, so that a failed start leaves an earlier run as it is
            remove_unfinished(self.run.folder)
            if first:  # an earlier run's states do not belong to this run's best head
                self.run.last.unlink(missing_ok=True)
                self.run.interrupted.unlink(missing_ok=True)
            # A resumed run replaces the events of the epochs that it repeats.
            events = self.run.events
            self.tracker = TensorBoardTracker(events.name, events.parent, purge_step=len(state.history))
            self.tracker.start()
        if is_best and output is not None:
            save_head(self.run.best, state.eval_head, self.config, record, self.box_margin)
            arrays = {**self.validation, "probabilities": output.probabilities}
            write_arrays(
                self.run.validation,
                arrays if output.expected is None else {**arrays, "expected": output.expected},
            )
        if first:
            self.run.metrics.unlink(missing_ok=True)
            if not is_best:  # an earlier run's head would pass for this one's
                self.run.best.unlink(missing_ok=True)
                self.run.validation.unlink(missing_ok=True)
        write_text(self.run.config, dump_yaml(self.config))
        save_run_state(self.run.last, state, self.config, self.fingerprints)
        self.run.interrupted.unlink(missing_ok=True)
        write_history(self.run.history, state.history)
        write_manifest(self.run.folder, growing=self.run.events)
        metrics = {name: value for name, value in record.items() if name != "epoch"}
        self.tracker.log(metrics, step=int(record["epoch"]))
        text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        print(f"epoch {record['epoch']:g}: {text}{' (best)' if is_best else ''}", flush=True)

    def on_stop(self, state: TrainState) -> str:
        """Save the state within an epoch; return a message. An earlier run's files stay until an epoch ends."""
        if state.progress.steps:
            save_run_state(self.run.interrupted, state, self.config, self.fingerprints)
        elif not state.history:
            return "nothing was trained yet"
        return f"state saved after {position(state, self.run)}; resume with --resume"

    def close(self, state: TrainState) -> None:
        """Write the metrics of the best epoch."""
        # Repeated, for a run that was killed while its last epoch was written.
        remove_unfinished(self.run.folder)
        write_history(self.run.history, state.history)
        if self.tracker is not None:
            self.tracker.finish()
        with np.load(self.run.validation) as saved:
            predicted, truth = saved["probabilities"].argmax(axis=1), saved["truth"]
        names = self.config["label"]["classes"]
        per_class = classification_report(
            truth, predicted, labels=range(len(names)), target_names=names, output_dict=True, zero_division=0
        )
        best = read_description(self.run.best)["validation"]
        scores = {key: best[key] for key in ("macro_f1", "accuracy", "mae", "epoch") if key in best}
        metrics: dict[str, Any] = {
            **scores,
            "photographs": len(truth),
            "classes": {name: per_class[name] for name in names},
            "epochs": len(state.history),
            "minutes": round(sum(record["seconds"] for record in state.history) / 60, 2),
        }
        write_json(self.run.metrics, metrics)
        write_manifest(self.run.folder)
        text = ", ".join(f"{key} {value:.4g}" for key, value in scores.items())
        print(
            f"{self.config['task']}: best on validation: {text}; {metrics['minutes']} minutes; {self.run.folder}"
        )


def fingerprint_data(
    train: pd.DataFrame,
    valid: pd.DataFrame,
    target: Target,
    crops: CroppedReader | None,
    cached: bool,
    frozen: str | None,
) -> dict[str, str | None]:
    """Summarise the data of a run, a text for each of `FINGERPRINTS`: equal if the run may resume.

    Paths are relative to their source's folder, so that a run resumes after its data were moved.

    Args:
        train: rows to train on.
        valid: rows to validate on.
        target: its columns are the labels.
        crops: crops the images; None: they stay whole.
        cached: whether images are copies at the working size.
        frozen: checksum of the frozen backbone if features are used in place of images.
    """
    fingerprints = {
        "train": _fingerprint_rows(train, target),
        "validation": _fingerprint_rows(valid, target),
        "boxes": None,
        "box_margin": None,
        "kept": "copies" if cached else None,
        "frozen": frozen,
    }
    if crops is not None:
        paths = [os.path.abspath(path) for path in (*train["path"], *valid["path"])]  # noqa: PTH100 (links stay)
        used = [found[0][:4] if (found := crops.boxes.get(path)) else None for path in paths]
        cropped = sum(box is not None for box in used)
        fingerprints |= {"boxes": f"{cropped} cropped ({_digest(used)})", "box_margin": f"{crops.margin:g}"}
    return fingerprints


def _fingerprint_rows(rows: pd.DataFrame, target: Target) -> str:
    folders = {source: f"{source_folder(Path(source))}{os.sep}" for source in rows["source"].unique()}
    sources = zip(rows["source"], rows["path"], strict=True)
    paths = [path.removeprefix(folders[source]) for source, path in sources]
    columns = [part.column for part in target.parts] or [target.column]
    labels = (rows[name].astype(str) for name in columns)
    return f"{len(rows)} ({_digest(zip(paths, *labels, strict=True))})"


def _digest(values: Iterable[Any]) -> str:
    """Return the first 16 digits of the SHA-256 of values as JSON."""
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def position(state: TrainState, run: RunFolder) -> str:
    """Describe how far a run is."""
    steps = state.progress.steps
    within = f" and {steps} of {state.steps_per_epoch} steps" if steps else ""
    return f"epoch {len(state.history)}{within} of {run.folder}"


def save_run_state(
    path: Path, state: TrainState, config: Mapping[str, Any], fingerprints: Fingerprints
) -> None:
    """Write everything that `load_run_state` needs to one file."""
    description = {
        "history": state.history,
        "progress": state.progress.to_json(),
        "steps_per_epoch": state.steps_per_epoch,
        "config": config,
        "marks": dict(fingerprints),
    }
    save_state(path, state.modules, state.optimiser, state.schedule, description)


def load_run_state(
    run: RunFolder, state: TrainState, config: Mapping[str, Any], fingerprints: Fingerprints
) -> bool:
    """Restore the run's state in place; return whether there was one.

    Raises:
        InputError: the run started with another config or other data, or its file is damaged.
    """
    # Where both exist, the interrupted state is the later one, or within the epoch that is repeated.
    path = run.interrupted if run.interrupted.is_file() else run.last
    if not path.is_file():
        return False
    try:
        description = read_description(path)["description"]
        before = _flatten(read_stored_config(TaskConfig, description["config"], str(path)).model_dump())
        marks = dict(description.get("marks", {}))  # the earliest versions wrote none
        now = _flatten(config)
        raise_all(
            f"{run.folder}: started with another config; repeat its settings, or start without --resume",
            [
                f"{key}: found {now.get(key)!r}, expected {before.get(key)!r}"
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key) and key not in FREE_KEYS
            ],
        )
        raise_all(
            f"{run.folder}: started with other images or weights; use the same ones, or start without --resume",
            [
                f"{words}: found {fingerprints.get(key) or 'none'}, expected {marks[key] or 'none'}"
                for key, words in FINGERPRINTS.items()
                if key in marks and marks[key] != fingerprints.get(key)
            ],
        )
        steps = description.get("steps_per_epoch")
        if steps != state.steps_per_epoch:
            raise InputError(
                f"{run.folder}: started with {steps} steps per epoch, found {state.steps_per_epoch}; use the same "
                "--data, or start without --resume"
            )
        load_state(path, state.modules, state.optimiser, state.schedule)
        state.history[:] = [dict(record) for record in description["history"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: holds no unfinished run ({error}); start it without --resume") from None
    progress = description.get("progress")
    state.progress = EpochProgress() if progress is None else EpochProgress.from_json(progress)
    return True


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings, keys joined by dots.

    >>> _flatten({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
