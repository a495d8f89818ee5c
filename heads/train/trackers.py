"""Experiment trackers of a run, by accelerate: TensorBoard, MLflow and Weights & Biases."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker

from data.runtime.errors import raise_all
from heads.run.folder import RunFolder
from heads.train.state import Record


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose packages are not installed."""
    missing = [f"{name} is not installed" for name in names if find_spec(name) is None]
    raise_all("training.trackers: pip install -r requirements-trackers.txt, or leave them out", missing)


class RunTrackers:
    """The trackers of one run. Each has the metrics of every epoch once, also of a run that was killed and resumed.

    Args:
        names: tensorboard, mlflow, wandb.
        run: the run's folder, whose path is the run's name in mlflow and wandb.
        project: name of its experiment there.
        config: its settings, flat.

    Attributes:
        ids: its identifier in mlflow and wandb, to go on with when it is resumed.
    """

    def __init__(self, names: Sequence[str], run: RunFolder, project: str, config: Mapping[str, Any]) -> None:
        self.names, self.run, self.project, self.config = list(dict.fromkeys(names)), run, project, config
        self.ids: dict[str, str] = {}
        self._logged: dict[GeneralTracker, int] = {}  # epochs that each one has

    def start(self) -> None:
        """Start the trackers if they are not."""
        if not self._logged:
            self._logged = dict(map(self._start, self.names))

    def log(self, history: Sequence[Record]) -> None:
        """Log the epochs that a tracker lacks."""
        for tracker, count in self._logged.items():
            for record in history[count:]:
                metrics = {name: value for name, value in record.items() if name != "epoch"}
                tracker.log(metrics, step=int(record["epoch"]))
            self._logged[tracker] = len(history)

    def finish(self) -> None:
        """End the trackers that were started."""
        for tracker in self._logged:
            tracker.finish()

    def _start(self, name: str) -> tuple[GeneralTracker, int]:
        """Start a tracker; return it and the number of epochs that it has."""
        known, count, title = self.ids.get(name), 0, str(self.run.folder)
        if name == "tensorboard":
            # Its reader drops all earlier events, which are then written again.
            tensorboard = TensorBoardTracker(self.run.events.name, self.run.folder, purge_step=1)
            tensorboard.start()
            return tensorboard, count
        tracker: GeneralTracker
        if name == "mlflow":
            from mlflow import MlflowClient

            tracker = MLflowTracker(self.project, run_id=known, run_name=title)
            tracker.start()
            self.ids[name] = tracker.tracker.info.run_id
            count = len(MlflowClient().get_metric_history(self.ids[name], "seconds"))
        else:  # drops steps that it has
            tracker = WandBTracker(self.project, name=title, id=known, resume="allow")
            tracker.start()
            self.ids[name] = tracker.tracker.id
        if known is None:
            tracker.store_init_configuration(dict(self.config))
        return tracker, count
