"""What a run keeps: its best head, the state to go on from, its history, and at the end its figures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from accelerate.utils import extract_model_from_parallel
from sklearn.metrics import classification_report

from data.dataset import Photographs
from data.errors import InputError, refuse
from data.files import write_text
from heads.checkpoint import load_state, load_tensors, save_state
from heads.config import TaskConfig
from heads.monitor import PICTURES, Monitor, draw_predictions
from heads.run import RunFolder, save_head, write_arrays, write_history, write_json
from heads.training import Learner, Plan, Truth
from heads.validation import Predictions

# What may differ when a run goes on: it changes how fast a run is, not what comes out of it.
FREE_KEYS = ("training.workers",)


class Keeper:
    """Writes one run's folder as `fit` tells of its epochs.

    Args:
        run: where to.
        config: the resolved config; a run only goes on under the one that it began with.
        rows: the validation rows (person, path), in the order of `truth` and `photographs`.
        photographs: of the validation fold, for the picture of predictions.
        truth: their labels.
    """

    def __init__(
        self, run: RunFolder, config: TaskConfig, rows: pd.DataFrame, photographs: Photographs, truth: Truth
    ) -> None:
        self.run, self.config, self.rows, self.truth = run, config, rows, truth
        self.monitor: Monitor | None = None
        self._shown = np.linspace(0, len(rows) - 1, min(PICTURES, len(rows))).astype(int)
        self._pictures = [photographs[(0, int(row))][0] for row in self._shown]

    def open(self, learner: Learner, resume: bool) -> None:
        """Go on from the run's last epoch where `resume` says so and there is one."""
        if resume and self.run.last.is_file():
            self._refuse_other_config()
            description = load_state(self.run.last, learner.modules, learner.optimiser, learner.schedule)
            if description.get("steps_per_epoch") != learner.steps_per_epoch:
                raise InputError(
                    f"{self.run.folder}: began with {description.get('steps_per_epoch')} steps an epoch, found "
                    f"{learner.steps_per_epoch}; give the same --data as before, or start without --resume"
                )
            learner.history[:] = description["history"]
            print(f"going on after epoch {len(learner.history)} of {self.run.folder}")

    def _begin(self, learner: Learner) -> Monitor:
        """Take the folder: only once an epoch is there to keep, so that a false start costs no earlier run."""
        if len(learner.history) == 1:
            stale = (self.run.last, self.run.best, self.run.history, self.run.metrics, self.run.validation)
            for path in stale:
                path.unlink(missing_ok=True)
        write_text(self.run.config, self.config.to_yaml())
        return Monitor(self.run.events, next_epoch=len(learner.history) - 1)

    def after_epoch(self, learner: Learner, predictions: Predictions, is_best: bool) -> None:
        """Keep the epoch that ended: the head where it is the best, then the state, then what people look at.

        Killed in between, a run goes on from the state before and writes the same best again.
        """
        record = learner.history[-1]
        if self.monitor is None:
            self.monitor = self._begin(learner)
        if is_best:
            head = extract_model_from_parallel(learner.judged)
            save_head(self.run.best, head, self.config.model_dump(), record)
            self._write_validation(predictions)
        description = {
            "history": learner.history,
            "steps_per_epoch": learner.steps_per_epoch,
            "config": self.config.model_dump(),
        }
        save_state(self.run.last, learner.modules, learner.optimiser, learner.schedule, description)
        write_history(self.run.history, learner.history)
        self.monitor.scalars(record)
        probabilities, indices = predictions.probabilities[self._shown], self.truth.indices[self._shown]
        figure = draw_predictions(self._pictures, probabilities, indices, self.config.label.classes)
        self.monitor.pictures(int(record["epoch"]), figure)
        told = ", ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "epoch")
        print(f"epoch {record['epoch']:g}: {told}{' (best)' if is_best else ''}", flush=True)

    def close(self, learner: Learner, plan: Plan) -> None:
        """Write the run's figures: those of its best epoch."""
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
        told = ", ".join(f"{key} {best[key]:.4g}" for key in keys)
        print(
            f"{self.config.task}: best on validation: {told}; {metrics['minutes']} minutes; {self.run.folder}"
        )

    def _write_validation(self, predictions: Predictions) -> None:
        arrays = {
            "person": self.rows["person"].to_numpy(dtype=np.str_),
            "path": self.rows["path"].to_numpy(dtype=np.str_),
            "classes": np.array(self.config.label.classes),
            "truth": self.truth.indices,
            "probabilities": predictions.probabilities,
        }
        if predictions.expected is not None and self.truth.numbers is not None:
            arrays |= {"expected": predictions.expected, "value": self.truth.numbers}
        write_arrays(self.run.validation, arrays)

    def _refuse_other_config(self) -> None:
        _, plain = load_tensors(self.run.last)
        try:
            before = _flat(plain["description"]["config"])
        except (KeyError, TypeError):
            raise InputError(f"{self.run.last}: holds no unfinished run; start it without --resume") from None
        now = _flat(self.config.model_dump())
        refuse(
            f"{self.run.folder}: began under another config; repeat its settings, or start without --resume",
            [
                f"{key}: found {now.get(key)!r}, expected {before.get(key)!r}"
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key) and key not in FREE_KEYS
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
