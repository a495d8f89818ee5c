"""What a run keeps: its best head, the state to go on from, its history, and at the end its figures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from accelerate.utils import extract_model_from_parallel
from sklearn.metrics import classification_report

from data.dataset import ImageDataset
from data.runtime.files import remove_unfinished, write_text
from heads.config.task import TaskConfig
from heads.run.folder import RunFolder, save_head, write_arrays, write_history, write_json
from heads.run.manifest import write_manifest
from heads.train.monitor import PICTURES, Monitor, draw_predictions
from heads.train.resume import load_run_state, position, save_run_state
from heads.train.settings import FitSettings
from heads.train.state import TrainState
from heads.train.validation import Labels, Predictions


class RunRecorder:
    """Writes one run's folder as `fit` tells of its epochs.

    Args:
        run: where to.
        config: the resolved config; a run only goes on under the one that it began with.
        rows: the validation rows (person, path), in the order of `truth` and `images`.
        images: of the validation fold, for the image of predictions.
        truth: their labels.
        marks: of `heads.train.resume.fingerprint_data`; a run only goes on with those that it began with.
        box_margin: around the boxes that images are cropped to; None where they are shown whole.
    """

    def __init__(
        self,
        run: RunFolder,
        config: TaskConfig,
        rows: pd.DataFrame,
        images: ImageDataset,
        truth: Labels,
        marks: Mapping[str, str | None],
        box_margin: float | None = None,
    ) -> None:
        self.run, self.config, self.rows, self.truth = run, config, rows, truth
        self.marks, self.box_margin = marks, box_margin
        self.monitor: Monitor | None = None
        self._shown = np.linspace(0, len(rows) - 1, min(PICTURES, len(rows))).astype(int)
        self._images = [images[(0, int(row), 0)].pixels[0] for row in self._shown]

    def open(self, learner: TrainState, resume: bool) -> None:
        """Go on from where the run was interrupted, else from its last epoch, where `resume` says so."""
        if resume and load_run_state(self.run, learner, self.config, self.marks):
            print(f"going on after {position(learner, self.run)}")

    def _begin(self, learner: TrainState) -> Monitor:
        """Take the folder: only once an epoch is there to save_run_state, so that a false start costs no earlier run.

        Of an earlier run the states go at once, since they must not be gone on from with this run's best head;
        its best head stays until this run's takes its position, or this run's first epoch ends without validation.
        """
        remove_unfinished(self.run.folder)
        if len(learner.history) == 1:
            for path in (self.run.last, self.run.interrupted):
                path.unlink(missing_ok=True)
        return Monitor(self.run.events, next_epoch=len(learner.history) - 1)

    def after_epoch(self, learner: TrainState, predictions: Predictions | None, is_best: bool) -> None:
        """Keep the epoch that ended: the head where it is the best, then the state, then what people look at.

        Killed in between, a run goes on from the state before and writes the same best again.
        """
        record = learner.history[-1]
        if self.monitor is None:
            self.monitor = self._begin(learner)
        best = predictions if is_best else None
        if best is not None:
            head = extract_model_from_parallel(learner.judged)
            save_head(self.run.best, head, self.config.model_dump(), record, self.box_margin)
            self._write_validation(best)
        if len(learner.history) == 1:
            self.run.metrics.unlink(missing_ok=True)
            if best is None:  # what an earlier run left would be taken for this one's
                self.run.best.unlink(missing_ok=True)
                self.run.validation.unlink(missing_ok=True)
        write_text(self.run.config, self.config.to_yaml())
        save_run_state(self.run.last, learner, self.config, self.marks)
        self.run.interrupted.unlink(missing_ok=True)
        write_history(self.run.history, learner.history)
        write_manifest(self.run.folder, growing=self.run.events)
        self.monitor.scalars(record)
        if best is not None:  # of the head that is kept; drawing takes longer than an epoch of kept features
            probabilities, indices = best.probabilities[self._shown], self.truth.indices[self._shown]
            figure = draw_predictions(self._images, probabilities, indices, self.config.label.classes)
            self.monitor.images(int(record["epoch"]), figure)
        told = ", ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "epoch")
        print(f"epoch {record['epoch']:g}: {told}{' (best)' if is_best else ''}", flush=True)

    def when_stopped(self, learner: TrainState) -> str:
        """Keep the state in the middle of an epoch; returns where the run stands, for the user.

        An earlier run's files stay as they are: they go only when this run has an epoch to put in their position.
        """
        if learner.progress.steps:
            save_run_state(self.run.interrupted, learner, self.config, self.marks)
        if not learner.progress.steps and not learner.history:
            return "nothing was trained yet"
        return f"state saved after {position(learner, self.run)}; go on with --resume"

    def close(self, learner: TrainState, plan: FitSettings) -> None:
        """Write the run's figures: those of its best epoch."""
        # Swept and written again: a run that was killed in its last epoch's writing has only this left to do.
        remove_unfinished(self.run.folder)
        write_history(self.run.history, learner.history)
        if self.monitor is not None:
            self.monitor.close()
        with np.load(self.run.validation) as saved:
            answers, truth = saved["probabilities"].argmax(axis=1), saved["truth"]
        names = self.config.label.classes
        per_class = classification_report(
            truth, answers, labels=range(len(names)), target_names=names, output_dict=True, zero_division=0
        )
        best = learner.history[plan.best(learner.history)]
        keys = [key for key in ("macro_f1", "accuracy", "mae", "epoch") if key in best]
        metrics: dict[str, Any] = {
            **{key: best[key] for key in keys},
            "photographs": len(truth),
            "classes": {name: per_class[name] for name in names},
            "epochs": len(learner.history),
            "minutes": round(sum(record["seconds"] for record in learner.history) / 60, 2),
        }
        write_json(self.run.metrics, metrics)
        write_manifest(self.run.folder)
        told = ", ".join(f"{key} {best[key]:.4g}" for key in keys)
        print(
            f"{self.config.task}: best on validation: {told}; {metrics['minutes']} minutes; {self.run.folder}"
        )

    def _write_validation(self, predictions: Predictions) -> None:
        arrays = {
            "person": self.rows["person"].to_numpy(dtype=np.str_),
            "path": self.rows["path"].to_numpy(dtype=np.str_),
            "shot": self.rows["shot"].fillna("").to_numpy(dtype=np.str_),
            "column": np.array(self.config.label.column or ""),
            "borders": np.array(self.config.label.borders or [], dtype=np.float64),
            "folds": np.array(self.config.split.folds),
            "classes": np.array(self.config.label.classes),
            "truth": self.truth.indices,
            "probabilities": predictions.probabilities,
        }
        if predictions.expected is not None and self.truth.numbers is not None:
            arrays |= {"expected": predictions.expected, "value": self.truth.numbers}
        write_arrays(self.run.validation, arrays)
