"""A run's folder after each epoch, and what a run may resume with: its own config, data and weights."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from sklearn.metrics import f1_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from data.annotations.table import read_table
from data.images.crop import CroppedReader
from data.images.decode import decode
from data.runtime.errors import InputError
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.objective.calibration import fit_temperature
from heads.objective.targets import Target
from heads.run.checkpoint import load_tensors, save_tensors
from heads.run.folder import RunFolder
from heads.train.loaders import ImageSource
from heads.train.loop import FitSettings, ValidationOutput
from heads.train.recorder import FINGERPRINTS, RunRecorder, fingerprint_data
from heads.train.state import EpochProgress, TrainState
from heads.train.trackers import RunTrackers, check_trackers

COLOUR = Target("colour", ("red", "green", "blue"))
DATA = {"train": "16 (aa)", "validation": "8 (bb)", "boxes": "23 cropped (cc)", "box_margin": "1"} | dict.fromkeys(
    ("kept", "frozen")
)


class Epochs:
    """Calls a recorder by hand: a small module stands for the head, the metrics are given."""

    def __init__(
        self, folder: Path, squares: Any, config: TaskConfig, fingerprints: Mapping[str, str | None] = DATA
    ) -> None:
        self.run, self.settings = RunFolder(folder), FitSettings(9)
        head = nn.Linear(2, 3)
        optimiser = SGD(head.parameters(), lr=1.0)
        self.state = TrainState(head, optimiser, LambdaLR(optimiser, lambda step: 1.0))
        self.truth = np.array([COLOUR.classes.index(colour) for colour in squares.colours])
        validation = {"person": np.array(squares.persons), "truth": self.truth}
        self.recorder = RunRecorder(self.run, config.model_dump(), fingerprints, validation)

    def end(self, macro_f1: float | None) -> None:
        """End an epoch in which the weights became its macro F1; None: it was not validated."""
        nn.init.constant_(self.state.head.weight, -1.0 if macro_f1 is None else macro_f1)
        record = {"epoch": len(self.state.history) + 1, "seconds": 60.0}
        output = None
        if macro_f1 is not None:
            record |= {"macro_f1": macro_f1, "accuracy": 0.5}
            right = np.arange(len(self.truth)) < macro_f1 * len(self.truth)
            output = ValidationOutput(np.eye(3, dtype=np.float32)[np.where(right, self.truth, 0)])
        self.state.history.append(record)
        is_best = output is not None and self.settings.best_epoch(self.state.history) + 1 == record["epoch"]
        self.recorder.after_epoch(self.state, output, is_best)

    def weights(self) -> tuple[float, float]:
        """The weights of best and last."""
        best, last = load_tensors(self.run.best)[0], load_tensors(self.run.last)[0]
        return best["weight"][0, 0].item(), last["head/weight"][0, 0].item()


@pytest.fixture
def start(tmp_path: Path, squares: Any, colour_config: Callable) -> Callable[..., Epochs]:
    """Start a run in one folder, with other sections of the config and other data if given."""

    def make(data: Mapping[str, str | None] = DATA, **sections: Any) -> Epochs:
        return Epochs(tmp_path, squares, colour_config(**sections), data)

    return make


def test_a_run_has_its_best_and_last_epoch_and_scikit_learns_metrics(start: Callable) -> None:
    epochs = start()
    for macro_f1 in (0.25, 0.75, None, 0.5):
        epochs.end(macro_f1)
    epochs.recorder.close(epochs.state, {})
    assert epochs.weights() == (0.75, 0.5)
    assert load_tensors(epochs.run.best)[1]["validation"]["epoch"] == 2
    assert load_config(TaskConfig, epochs.run.config).model_dump() == epochs.recorder.config
    macro_f1 = pd.read_csv(epochs.run.history)["macro_f1"].tolist()
    assert macro_f1 == pytest.approx([0.25, 0.75, np.nan, 0.5], nan_ok=True)
    metrics = json.loads(epochs.run.metrics.read_text(encoding="utf-8"))
    with np.load(epochs.run.validation) as saved:
        truth, probabilities = saved["truth"], saved["probabilities"]
    predicted = probabilities.argmax(axis=1)
    assert (metrics["macro_f1"], metrics["epoch"], metrics["epochs"], metrics["minutes"]) == (0.75, 2, 4, 4.0)
    assert metrics["photographs"] == 24
    # Sure of every class and sometimes wrong: the temperature of its validation people makes it less sure.
    assert metrics["temperature"] == fit_temperature(probabilities, truth) > 1
    assert load_tensors(epochs.run.best)[1]["temperature"] == metrics["temperature"]
    assert metrics["calibration_error"] == pytest.approx((predicted != truth).mean())
    assert metrics["calibration_error_scaled"] < metrics["calibration_error"]
    assert list(metrics["classes"]) == ["red", "green", "blue"]
    for key, score in (("f1-score", f1_score), ("recall", recall_score)):
        found = [scores[key] for scores in metrics["classes"].values()]
        assert found == pytest.approx(score(truth, predicted, average=None).tolist())


@pytest.mark.parametrize("first", [0.25, None])
def test_a_new_run_replaces_an_earlier_one_when_its_first_epoch_ends(start: Callable, first: float | None) -> None:
    earlier = start()
    for macro_f1 in (0.75, 0.5):
        earlier.end(macro_f1)
    earlier.recorder.close(earlier.state, {})
    new = start()
    assert new.weights() == (0.75, 0.5)
    new.end(first)
    assert not new.run.metrics.exists()
    assert [new.run.best.exists(), new.run.validation.exists()] == [first is not None] * 2
    assert first is None or new.weights() == (0.25, 0.25)
    assert len(pd.read_csv(new.run.history)) == 1


def test_a_run_that_was_resumed_in_its_first_epoch_can_be_killed_at_its_end(
    start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = start()
    stopped.state.progress = EpochProgress(steps=3)
    stopped.recorder.on_stop(stopped.state)
    resumed = start()
    resumed.recorder.resume(resumed.state)
    monkeypatch.setattr(resumed.recorder, "_save", lambda *_: sys.exit())
    with pytest.raises(SystemExit):
        resumed.end(0.5)
    again = start()
    again.recorder.resume(again.state)
    assert again.state.progress.steps == 3


FREE = {"workers": 9, "trackers": []}
CONFIG_MESSAGE = (
    "started with another config; repeat its settings, or start without --resume\n"
    "  optimiser.lr: found 0.5, expected 0.001\n  sampler.power: found 0.25, expected 0.5"
)
DATA_MESSAGE = (
    "started with other images or weights; use the same ones, or start without --resume\n"
    f"  {FINGERPRINTS['boxes']}: found none, expected 23 cropped (cc)\n"
    f"  {FINGERPRINTS['kept']}: found copies, expected none"
)


@pytest.mark.parametrize(
    ("sections", "data", "message"),
    [
        ({"optimiser": {"lr": 0.5}, "sampler": {"power": 0.25}, "training": FREE}, {}, CONFIG_MESSAGE),
        ({"training": FREE}, {"boxes": None, "kept": "copies"}, DATA_MESSAGE),
    ],
)
def test_a_run_does_not_resume_with_another_config_or_other_data(
    sections: dict[str, Any], data: dict[str, str | None], message: str, start: Callable, tmp_path: Path
) -> None:
    (other := start(DATA | data, **sections)).recorder.resume(other.state)  # there is nothing yet
    start().end(0.5)
    nn.init.constant_(other.state.head.weight, 7.0)
    with pytest.raises(InputError) as raised:
        other.recorder.resume(other.state)
    assert str(raised.value) == f"{tmp_path}: {message}"
    assert other.state.head.weight[0, 0] == 7.0


def change(run: RunFolder, key: str, value: object) -> None:
    """Replace a part of the description of a run's last state; None removes it."""
    tensors, plain = load_tensors(run.last)
    plain["description"][key] = value
    if value is None:
        del plain["description"][key]
    save_tensors(run.last, tensors, plain)


def test_states_of_version_0_1_and_before_are_resumed(start: Callable) -> None:
    first, second = start(), start(DATA | {"train": "16 (ee)"})
    first.end(0.5)
    config = first.recorder.config
    label = {**config["label"], "training": {"borders": None, "leave_out": []}}
    training = {key: value for key, value in config["training"].items() if key not in ("trackers", "patience")}
    change(first.run, "config", {**config, "label": label, "training": {**training, "resizing": None}})
    change(first.run, "marks", None)
    progress = {"steps": 3, "loss_sum": 1.5, "photographs": 18, "seconds": 2.0, "generators": {}}
    change(first.run, "progress", progress)
    second.recorder.resume(second.state)
    assert torch.equal(first.state.head.weight, second.state.head.weight)
    assert vars(second.state.progress) == vars(EpochProgress(3, 1.5, 18, 2.0))
    assert second.state.progress.to_json() == progress


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        *(("marks", value, "holds no unfinished run .*; start it without --resume") for value in (1, "x", [1])),
        ("steps_per_epoch", 7, "started with 7 steps per epoch, found 0"),
        *(("progress", value, "progress of an unfinished run is") for value in ([], {}, {"steps": "3"})),
        ("config", "colour.yaml", "colour.yaml"),
        ("history", None, "holds no unfinished run"),
    ],
)
def test_a_state_that_is_damaged_is_refused(key: str, value: object, message: str, start: Callable) -> None:
    start().end(0.5)
    other = start()
    change(other.run, key, value)
    with pytest.raises(InputError, match=message):
        other.recorder.resume(other.state)
    shutil.copy(other.run.best, other.run.last)
    with pytest.raises(InputError, match="holds no unfinished run"):
        other.recorder.resume(other.state)


def read_tracker(name: str, run: RunFolder) -> list[tuple[int, float]]:
    """Steps and values of macro F1 in all runs that a tracker has."""
    if name == "tensorboard":
        return [(e.step, e.value) for e in EventAccumulator(str(run.events)).Reload().Scalars("macro_f1")]
    client = MlflowClient()
    found = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [(each.data.params["task"], each.info.status) for each in found] == [("colour", "FINISHED")]
    return [(m.step, m.value) for each in found for m in client.get_metric_history(each.info.run_id, "macro_f1")]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_tracker_has_each_epoch_once_also_of_a_run_that_was_killed_before_it_was_logged(
    name: str, start: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for scores in ([0.25, 0.75], [0.5, 0.125]):
        epochs = start(training={"trackers": [name]})
        epochs.recorder.resume(epochs.state)
        epochs.end(scores[0])
        with patch.object(RunTrackers, "log", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            epochs.end(scores[1])
        epochs.recorder.trackers.finish()
    last = start(training={"trackers": [name]})
    last.recorder.resume(last.state)
    last.recorder.close(last.state, {})
    history = pd.read_csv(last.run.history)
    assert read_tracker(name, last.run) == list(zip(history["epoch"], history["macro_f1"], strict=True))
    assert len(history) == 4


def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install() -> None:
    with pytest.raises(InputError, match=r"requirements-trackers\.txt.*\n  no_such_tracker is not installed"):
        check_trackers(["tensorboard", "no_such_tracker"])


@pytest.fixture
def folder(squares: Any, tmp_path: Path) -> Path:
    """A copy of the squares with a second label, and boxes of all images but the last."""
    shutil.copytree(squares.folder, tmp_path / "here")
    head, *lines = (tmp_path / "here" / "labels.csv").read_text().splitlines()
    rows = [f"{head},shade", *(f"{line},a" for line in lines)]
    (tmp_path / "here" / "labels.csv").write_text("\n".join(rows) + "\n")
    lines = [f"images/{Path(path).name},1,2,{20 + row},30,0.9" for row, path in enumerate(squares.paths[:-1])]
    (tmp_path / "here" / "boxes.csv").write_text("\n".join(["path,x0,y0,x1,y1,score", *lines]) + "\n")
    return tmp_path / "here"


def fingerprint(source: Path, boxes: bool = True, margin: float = 1.0) -> dict[str, str | None]:
    """Fingerprint a source with two labels, whose first 16 rows are the training set."""
    rows = read_table([source])
    target = Target("", ("",) * 9, parts=(COLOUR, Target("shade", ("a", "b", "c"))))
    split = SimpleNamespace(target=target, train=rows[:16], valid=rows[16:].reset_index(drop=True))
    crops = CroppedReader(source / "boxes.csv", margin) if boxes else None
    return fingerprint_data(split, ImageSource(decode, crops), None)  # type: ignore[arg-type]


def rename(folder: Path) -> None:
    (folder / "images/0_0.png").rename(folder / "images/0_2.png")
    replace("labels.csv", "0_0", "0_2")(folder)


def replace(file: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_text((folder / file).read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("changes", "options", "differing"),
    [
        ([], {}, set()),
        ([], {"margin": 1.5}, {"box_margin"}),
        ([], {"boxes": False}, {"boxes", "box_margin"}),
        ([replace("labels.csv", "0_0.png,red", "0_0.png,blue")], {}, {"train"}),
        ([replace("labels.csv", "9_1.png,red", "9_1.png,blue")], {}, {"validation"}),
        ([replace("labels.csv", ",a\n", ",b\n")], {}, {"train"}),  # the second label
        ([rename], {}, {"train", "boxes"}),
        ([replace("boxes.csv", "1,2,20,30", "1,3,20,30")], {}, {"boxes"}),
        ([replace("boxes.csv", "score\n", "score\nimages/nobody.png,1,1,5,5,0.5\n")], {}, set()),
    ],
)
def test_fingerprints_differ_where_images_labels_or_boxes_do(
    changes: list[Callable], options: dict[str, Any], differing: set[str], folder: Path
) -> None:
    first = fingerprint(folder)
    assert first["boxes"] is not None
    assert first["boxes"].startswith("23 cropped (")
    for change_folder in changes:
        change_folder(folder)
    second = fingerprint(folder.rename(folder.with_name("there")), **options)  # where the data are does not matter
    assert first.keys() == second.keys() == FINGERPRINTS.keys()
    assert {key for key in first if first[key] != second[key]} == differing
