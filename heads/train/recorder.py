"""Record of a run in its folder: the best head, history and metrics, and the state that a run resumes from."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

from data.annotations.table import paths_in_sources
from data.images.decode import write_left_out
from data.runtime.arrays import write_arrays
from data.runtime.errors import InputError, raise_all
from data.runtime.files import remove_unfinished, write_text
from heads.config.loader import dump_yaml, read_stored_config
from heads.config.task import FREE_KEYS, TaskConfig
from heads.objective.calibration import expected_calibration_error, fit_temperature, scale
from heads.objective.targets import Target
from heads.run.checkpoint import load_state, read_description, save_state
from heads.run.folder import RunFolder, save_head, write_history, write_json, write_manifest
from heads.train.loaders import ImageSource
from heads.train.loop import ValidationOutput
from heads.train.split import DataSplit
from heads.train.state import EpochProgress, TrainState
from heads.train.trackers import RunTrackers

SCORES = ("macro_f1", "accuracy", "mae", "epoch")  # of a run's best epoch, in metrics.json
# What must not change beside the config: keys in the state, and words for messages.
FINGERPRINTS = {
    "train": "images to train on and their labels, in order (--data, corrections)",
    "validation": "images to validate on and their labels, in order (--data, corrections)",
    "boxes": "--boxes, as they crop these images",
    "box_margin": "--box-margin",
    "kept": "--cache, whose copies have the working size",
    "teacher": "heads of teacher.runs, or teacher.file",
    "frozen": "frozen backbone that training.feature_views are computed with (backbone.weights)",
}


class RunRecorder:
    """Writes one run's folder; its methods are called by `heads.train.loop.fit`.

    Args:
        run: the folder.
        config, fingerprints: the resolved config, and `fingerprint_data`: those of a run that is resumed must be equal.
        validation: arrays of validation.npz that describe the validation set, by name.
        box_margin: margin of the boxes that images are cropped to; None: they stay whole.
        people: `heads.run.leakage.TrainingPeople.to_json` of the head; None: not recorded.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Mapping[str, Any],
        fingerprints: Mapping[str, str | None],
        validation: Mapping[str, Any],
        box_margin: float | None = None,
        people: Mapping[str, Any] | None = None,
    ) -> None:
        self.run, self.config, self.fingerprints = run, config, fingerprints
        self.validation, self.box_margin, self.people = validation, box_margin, people
        self.trackers = RunTrackers(config["training"]["trackers"], run, config["task"], _flatten(config))
        self._started = self._resumed = False

    def after_epoch(self, state: TrainState, output: ValidationOutput | None, is_best: bool) -> None:
        """Write the head if it is the best, then the state, then the files for the user.

        A run that is killed in between resumes from the state before and writes the same best head again.
        """
        run, record, first = self.run, state.history[-1], len(state.history) == 1
        if not self._started:  # not before, so that a failed start leaves an earlier run as it is
            remove_unfinished(run.folder)
            if first:  # an earlier run's states do not belong to this run's best head
                run.last.unlink(missing_ok=True)
                if not self._resumed:
                    run.interrupted.unlink(missing_ok=True)
            self.trackers.start()
            self._started = True
        if is_best and output is not None:
            temperature = fit_temperature(output.probabilities, self.validation["truth"])
            save_head(run.best, state.eval_head, self.config, record, self.box_margin, temperature, self.people)
            expected = {} if output.expected is None else {"expected": output.expected}
            write_arrays(run.validation, {**self.validation, "probabilities": output.probabilities, **expected})
        if first:
            run.metrics.unlink(missing_ok=True)
            if not is_best:  # an earlier run's head would pass for this one's
                run.best.unlink(missing_ok=True)
                run.validation.unlink(missing_ok=True)
        write_text(run.config, dump_yaml(self.config))
        self._save(run.last, state)
        run.interrupted.unlink(missing_ok=True)
        write_history(run.history, state.history)
        write_manifest(run.folder, growing=run.events)
        self.trackers.log(state.history)
        text = ", ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "epoch")
        print(f"epoch {record['epoch']:g}: {text}{' (best)' if is_best else ''}", flush=True)

    def on_stop(self, state: TrainState) -> str:
        """Save the state within an epoch; return a message. An earlier run's files stay until an epoch ends."""
        if state.progress.steps:
            self._save(self.run.interrupted, state)
        elif not state.history:
            return "nothing was trained yet"
        return f"state saved after {self._position(state)}; resume with --resume"

    def close(self, state: TrainState, bad: Mapping[str, str]) -> None:
        """Write the metrics of the best epoch, and the `bad` images that were left out with their errors."""
        write_left_out(self.run.folder, bad)
        # Repeated, for a run that was killed while its last epoch was written.
        remove_unfinished(self.run.folder)
        write_history(self.run.history, state.history)
        if not self.run.metrics.is_file():
            self.trackers.start()
            self.trackers.log(state.history)
        self.trackers.finish()
        metrics = summarise_validation(self.run, self.config["label"]["classes"])
        minutes = round(sum(record["seconds"] for record in state.history) / 60, 2)
        metrics |= {"epochs": len(state.history), "minutes": minutes}
        scores = {key: metrics[key] for key in SCORES if key in metrics}
        write_json(self.run.metrics, metrics)
        write_manifest(self.run.folder)
        text = ", ".join(f"{key} {value:.4g}" for key, value in scores.items())
        print(f"{self.config['task']}: best on validation: {text}; {minutes} minutes; {self.run.folder}")

    def resume(self, state: TrainState) -> None:
        """Restore the state of an interrupted run in place, within an epoch or after one, if there is any.

        Raises:
            InputError: the run started with another config or other data, or its file is damaged.
        """
        # Where both exist, the interrupted state is the later one, or within the epoch that is repeated.
        path = self.run.interrupted if self.run.interrupted.is_file() else self.run.last
        if not path.is_file():
            return
        try:
            description = read_description(path)["description"]
            self._check(path, description)
            if description.get("steps_per_epoch") != state.steps_per_epoch:
                raise InputError(
                    f"{self.run.folder}: started with {description.get('steps_per_epoch')} steps per epoch, found "
                    f"{state.steps_per_epoch}; use the same --data, or start without --resume"
                )
            load_state(path, state.modules, state.optimiser, state.schedule)
            state.history[:] = [dict(record) for record in description["history"]]
            self.trackers.ids.update(description.get("trackers", {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"{path}: holds no unfinished run ({error}); start it without --resume"
            raise InputError(message) from None
        progress = description.get("progress")
        state.progress = EpochProgress() if progress is None else EpochProgress.from_json(progress)
        self._resumed = True
        print(f"resuming after {self._position(state)}")

    def _check(self, path: Path, description: Mapping[str, Any]) -> None:
        """Refuse the state at `path` if its run started with another config or other data."""
        stored = read_stored_config(TaskConfig, description["config"], str(path))
        before, now = _flatten(stored.model_dump()), _flatten(self.config)
        raise_all(
            f"{self.run.folder}: started with another config; repeat its settings, or start without --resume",
            [
                f"{key}: found {now.get(key)!r}, expected {before.get(key)!r}"
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key) and key.removeprefix("training.") not in FREE_KEYS
            ],
        )
        marks = dict(description.get("marks", {}))  # the earliest versions wrote none
        raise_all(
            f"{self.run.folder}: started with other images or weights; use the same ones, or start without --resume",
            [
                f"{words}: found {self.fingerprints.get(key) or 'none'}, expected {marks[key] or 'none'}"
                for key, words in FINGERPRINTS.items()
                if key in marks and marks[key] != self.fingerprints.get(key)
            ],
        )

    def _save(self, path: Path, state: TrainState) -> None:
        """Write everything that `resume` needs to one file."""
        description = {
            "history": state.history,
            "progress": state.progress.to_json(),
            "steps_per_epoch": state.steps_per_epoch,
            "config": self.config,
            "marks": dict(self.fingerprints),
            "trackers": self.trackers.ids,
        }
        save_state(path, state.modules, state.optimiser, state.schedule, description)

    def _position(self, state: TrainState) -> str:
        """Describe how far the run is."""
        steps = state.progress.steps
        within = f" and {steps} of {state.steps_per_epoch} steps" if steps else ""
        return f"epoch {len(state.history)}{within} of {self.run.folder}"


def summarise_validation(run: RunFolder, classes: Sequence[str]) -> dict[str, Any]:
    """Summarise a run's best head on its validation set: scores, calibration, precision and recall of each class."""
    with np.load(run.validation) as saved:
        probabilities, truth = saved["probabilities"], saved["truth"]
    predicted = probabilities.argmax(axis=1)
    per_class = classification_report(
        truth, predicted, labels=range(len(classes)), target_names=classes, output_dict=True, zero_division=0
    )
    description = read_description(run.best)
    best, temperature = description["validation"], description.get("temperature", 1.0)
    return {key: best[key] for key in SCORES if key in best} | {
        "temperature": temperature,
        "calibration_error": expected_calibration_error(probabilities, truth)[0],
        "calibration_error_scaled": expected_calibration_error(scale(probabilities, temperature), truth)[0],
        "photographs": len(truth),
        "classes": {name: per_class[name] for name in classes},
    }


def fingerprint_data(
    split: DataSplit, source: ImageSource, frozen: str | None, teacher: str | None = None
) -> dict[str, str | None]:
    """Summarise the data of a run, a text for each of `FINGERPRINTS`: equal if the run may resume.

    Paths are relative to their source's folder, so that a run resumes after its data were moved. `frozen` is the
    checksum of the frozen backbone if features are used in place of images, `teacher` that of the teachers.
    """
    fingerprints = {
        "train": _fingerprint_rows(split.train, split.target),
        "validation": _fingerprint_rows(split.valid, split.target),
        "boxes": None,
        "box_margin": None,
        "kept": None if source.cache is None else "copies",
        "frozen": frozen,
        "teacher": teacher,
    }
    if source.crops is not None:
        paths = [os.path.abspath(path) for path in (*split.train["path"], *split.valid["path"])]  # noqa: PTH100 (links stay)
        used = [found[0][:4] if (found := source.crops.boxes.get(path)) else None for path in paths]
        fingerprints["boxes"] = f"{sum(box is not None for box in used)} cropped ({_digest(used)})"
        fingerprints["box_margin"] = f"{source.crops.margin:g}"
    return fingerprints


def _fingerprint_rows(rows: pd.DataFrame, target: Target) -> str:
    columns = [part.column for part in target.parts] or [target.column]
    labels = (rows[name].astype(str) for name in columns)
    return f"{len(rows)} ({_digest(zip(paths_in_sources(rows), *labels, strict=True))})"


def _digest(values: Iterable[Any]) -> str:
    """Return the first 16 digits of the SHA-256 of values as JSON."""
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings, keys joined by dots.

    >>> _flatten({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
