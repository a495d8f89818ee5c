"""A run's folder: what it holds after each epoch, after a kill between two writes, and for which config."""

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, recall_score
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from data.dataset import ImageDataset, Sample
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.build import load_head
from heads.config.loader import dump_yaml, load_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import load_tensors
from heads.run.folder import RunFolder, run_folder
from heads.train.recorder import RunRecorder
from heads.train.settings import FitSettings
from heads.train.state import TrainState
from heads.train.validation import Labels, Predictions, predict
from train_task import train

SIZED = {"resize": {"height": 32, "width": 32}}
CONFIG: dict[str, Any] = {
    "task": "colour",
    "label": {"column": "colour", "classes": ["red", "green", "blue"]},
    "split": {"folds": 3, "strata": {"colour": []}},
    "backbone": {"weights": "random"},
    "classifier": {"hidden": [8], "dropout": 0.3},
    "loss": {"terms": [{"name": "focal"}]},
    "sampler": {"power": 0.5},
    "pixels": {"train": ["hflip", {"noise": {"p": 0.7}}, SIZED], "evaluate": [SIZED]},
    "training": {"epochs": 3, "batch_size": 8, "ema": 0.5, "precision": "fp32", "workers": 0, "clip_norm": 5.0},
}
TIMES = ("seconds", "images_per_second")


class Epochs:
    """Drives a keeper by hand: a small module stands for the head, the figures are given."""

    def __init__(self, folder: Path, squares: Any, **sections: Any) -> None:
        self.run, self.plan = RunFolder(folder), FitSettings(9)
        head = nn.Linear(2, 3)
        optimiser = SGD(head.parameters(), lr=1.0)
        self.learner = TrainState(head, optimiser, LambdaLR(optimiser, lambda step: 1.0))
        self.truth = np.array([CONFIG["label"]["classes"].index(colour) for colour in squares.colours])
        shots = pd.Series([None] * len(squares.paths), dtype="str")
        rows = pd.DataFrame({"person": squares.persons, "path": squares.paths, "shot": shots})
        images = ImageDataset(squares.paths, [Pipeline([])], torch.from_numpy(self.truth))
        config = TaskConfig.model_validate(CONFIG | sections)
        self.keeper = RunRecorder(self.run, config, rows, images, Labels(self.truth), {})

    def end(self, macro_f1: float) -> None:
        """End an epoch in which the weights became its figure."""
        nn.init.constant_(self.learner.head.weight, macro_f1)
        record = {
            "epoch": len(self.learner.history) + 1,
            "macro_f1": macro_f1,
            "accuracy": 0.5,
            "seconds": 60.0,
        }
        self.learner.history.append(record)
        answers = np.where(np.arange(len(self.truth)) < macro_f1 * len(self.truth), self.truth, 0)
        best = self.plan.best(self.learner.history) == len(self.learner.history) - 1
        self.keeper.after_epoch(self.learner, Predictions(np.eye(3, dtype=np.float32)[answers], None), best)

    def end_unseen(self) -> None:
        """End an epoch without validation."""
        nn.init.constant_(self.learner.head.weight, -1.0)
        self.learner.history.append({"epoch": len(self.learner.history) + 1, "seconds": 60.0})
        self.keeper.after_epoch(self.learner, None, is_best=False)

    def close(self) -> None:
        self.keeper.close(self.learner, self.plan)

    def history(self) -> list[float]:
        figures: list[float] = pd.read_csv(self.run.history)["macro_f1"].tolist()
        return figures


def kept_weight(path: Path, name: str) -> float:
    return load_tensors(path)[0][name][0, 0].item()


def test_best_and_last_are_the_best_and_the_last_epoch(tmp_path: Path, squares: Any) -> None:
    epochs = Epochs(tmp_path, squares)
    epochs.keeper.open(epochs.learner, resume=False)
    for macro_f1 in (0.25, 0.75, 0.5):
        epochs.end(macro_f1)
    epochs.close()
    assert kept_weight(epochs.run.best, "weight") == 0.75
    assert kept_weight(epochs.run.last, "head/weight") == 0.5
    assert load_tensors(epochs.run.best)[1]["validation"]["epoch"] == 2
    assert epochs.history() == [0.25, 0.75, 0.5]


def test_an_epoch_without_validation_is_kept_to_go_on_from_alone(tmp_path: Path, squares: Any) -> None:
    epochs = Epochs(tmp_path, squares)
    epochs.keeper.open(epochs.learner, resume=False)
    epochs.end_unseen()
    assert kept_weight(epochs.run.last, "head/weight") == -1.0
    assert not epochs.run.best.exists()
    epochs.end(0.5)
    epochs.end_unseen()
    epochs.close()
    assert kept_weight(epochs.run.best, "weight") == 0.5
    assert kept_weight(epochs.run.last, "head/weight") == -1.0
    assert pd.read_csv(epochs.run.history)["macro_f1"].isna().tolist() == [True, False, True]
    metrics = json.loads(epochs.run.metrics.read_text())
    assert (metrics["epoch"], metrics["epochs"], metrics["minutes"]) == (2, 3, 3.0)


def test_a_new_run_without_validation_yet_leaves_no_head_of_the_old(tmp_path: Path, squares: Any) -> None:
    old = Epochs(tmp_path, squares)
    old.keeper.open(old.learner, resume=False)
    old.end(0.5)
    old.close()
    new = Epochs(tmp_path, squares)
    new.keeper.open(new.learner, resume=False)
    new.end_unseen()
    assert kept_weight(new.run.last, "head/weight") == -1.0
    assert [path.exists() for path in (new.run.best, new.run.validation, new.run.metrics)] == [False] * 3


def test_metrics_are_scikit_learns_of_the_best_epochs_answers(tmp_path: Path, squares: Any) -> None:
    epochs = Epochs(tmp_path, squares)
    epochs.keeper.open(epochs.learner, resume=False)
    for macro_f1 in (0.75, 0.25):
        epochs.end(macro_f1)
    epochs.close()
    metrics = json.loads(epochs.run.metrics.read_text(encoding="utf-8"))
    with np.load(epochs.run.validation) as saved:
        truth, answers = saved["truth"], saved["probabilities"].argmax(axis=1)
        assert saved["path"].tolist() == squares.paths
        assert saved["person"].tolist() == squares.persons
        assert saved["classes"].tolist() == ["red", "green", "blue"]
    assert (metrics["macro_f1"], metrics["epoch"], metrics["epochs"], metrics["minutes"]) == (0.75, 1, 2, 2.0)
    assert metrics["photographs"] == 24
    assert list(metrics["classes"]) == ["red", "green", "blue"]
    for key, expected in (
        ("f1-score", f1_score(truth, answers, average=None)),
        ("recall", recall_score(truth, answers, average=None)),
    ):
        assert [metrics["classes"][name][key] for name in metrics["classes"]] == pytest.approx(
            expected.tolist()
        )


def test_the_config_that_it_keeps_reads_back(tmp_path: Path, squares: Any) -> None:
    epochs = Epochs(tmp_path, squares)
    epochs.keeper.open(epochs.learner, resume=False)
    epochs.end(0.5)
    epochs.close()
    assert load_config(TaskConfig, epochs.run.config) == epochs.keeper.config


def test_a_run_goes_on_after_its_last_epoch(tmp_path: Path, squares: Any) -> None:
    first = Epochs(tmp_path, squares)
    first.keeper.open(first.learner, resume=False)
    for macro_f1 in (0.75, 0.5):
        first.end(macro_f1)
    second = Epochs(tmp_path, squares, training=CONFIG["training"] | {"workers": 2})  # free to change
    second.keeper.open(second.learner, resume=True)
    assert second.learner.history == first.learner.history
    second.end(0.25)
    second.close()
    assert second.history() == [0.75, 0.5, 0.25]
    assert kept_weight(second.run.best, "weight") == 0.75


def test_going_on_where_nothing_is_begins_afresh(tmp_path: Path, squares: Any) -> None:
    epochs = Epochs(tmp_path / "new", squares)
    epochs.keeper.open(epochs.learner, resume=True)
    epochs.end(0.5)
    epochs.close()
    assert epochs.history() == [0.5]


def test_a_new_run_in_an_old_folder_keeps_nothing_of_the_old(tmp_path: Path, squares: Any) -> None:
    old = Epochs(tmp_path, squares)
    old.keeper.open(old.learner, resume=False)
    for macro_f1 in (0.75, 0.5):
        old.end(macro_f1)
    old.close()
    new = Epochs(tmp_path, squares)
    new.keeper.open(new.learner, resume=False)
    assert kept_weight(new.run.best, "weight") == 0.75  # until there is something to take its place
    new.end(0.25)
    assert kept_weight(new.run.best, "weight") == 0.25
    assert new.history() == [0.25]
    assert not new.run.metrics.exists()


def test_a_run_goes_on_under_its_own_config_alone(tmp_path: Path, squares: Any) -> None:
    first = Epochs(tmp_path, squares)
    first.keeper.open(first.learner, resume=False)
    first.end(0.5)
    other = Epochs(tmp_path, squares, optimiser={"lr": 0.5}, sampler={"power": 0.25})
    with pytest.raises(InputError) as raised:
        other.keeper.open(other.learner, resume=True)
    assert str(raised.value).splitlines() == [
        f"{tmp_path}: began under another config; repeat its settings, or start without --resume",
        "  optimiser.lr: found 0.5, expected 0.001",
        "  sampler.power: found 0.25, expected 0.5",
    ]


def test_a_state_that_is_none_is_refused(tmp_path: Path, squares: Any) -> None:
    first = Epochs(tmp_path, squares)
    first.keeper.open(first.learner, resume=False)
    first.end(0.5)
    shutil.copy(first.run.best, first.run.last)
    again = Epochs(tmp_path, squares)
    with pytest.raises(InputError, match="holds no unfinished run; start it without --resume"):
        again.keeper.open(again.learner, resume=True)


@pytest.fixture(scope="module")
def twice(
    squares: Any, accelerate_anew: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunFolder, RunFolder]]:
    """One run with two workers; the same without, killed after its second best was written, then resumed."""
    folder = tmp_path_factory.mktemp("twice")
    (folder / "colour.yaml").write_text(dump_yaml(CONFIG), encoding="utf-8")

    def trained(name: str, resume: bool, workers: int) -> RunFolder:
        options = [f"training.workers={workers}"]
        asked = {
            "task": "colour",
            "config": folder / "colour.yaml",
            "data": [squares.folder],
            "fold": None,
            "cache": None,
            "cache_limit": 10_000_000_000,
            "on_bad_image": "stop",
            "boxes": None,
            "box_margin": 0.0,
        }
        train(Namespace(**asked, runs=folder / name, resume=resume, set=options))
        return run_folder(folder / name, "colour")

    straight = trained("straight", resume=False, workers=2)
    killed = patch("heads.train.resume.save_state", killed_at_second_call())
    with killed, pytest.raises(KeyboardInterrupt):
        trained("cut", resume=False, workers=0)
    yield straight, trained("cut", resume=True, workers=0)
    shutil.rmtree(folder)  # half a gigabyte


def killed_at_second_call() -> Any:
    from heads.run.checkpoint import save_state

    calls: list[Path] = []

    def save(path: Path, *rest: Any) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save_state(path, *rest)

    return save


def test_a_run_killed_between_two_files_ends_as_if_it_had_not_been(twice: tuple[RunFolder, RunFolder]) -> None:
    for file in ("best.safetensors", "last.safetensors"):
        (one, _), (two, _) = (load_tensors(run.folder / file) for run in twice)
        assert one.keys() == two.keys()
        assert [name for name in one if not torch.equal(one[name], two[name])] == []
    one, two = (pd.read_csv(run.history).drop(columns=list(TIMES)) for run in twice)
    pd.testing.assert_frame_equal(one, two)
    assert one["epoch"].tolist() == [1, 2, 3]
    with np.load(twice[0].validation) as first, np.load(twice[1].validation) as second:
        assert all(np.array_equal(first[name], second[name]) for name in first.files)


def test_the_best_head_out_of_its_file_gives_its_validation_probabilities(
    twice: tuple[RunFolder, RunFolder],
) -> None:
    opened = load_head(twice[0].best)
    with np.load(twice[0].validation) as saved:
        paths, probabilities = saved["path"].tolist(), saved["probabilities"]
    images = ImageDataset(paths, [Pipeline(opened.config.pixels.evaluate)])
    batch = torch.stack([images[(0, row, 0)].pixels[0] for row in range(len(paths))])
    again = predict(opened.head, opened.target, [Sample([batch], batch, "")]).probabilities
    assert np.allclose(again, probabilities, atol=1e-5)
