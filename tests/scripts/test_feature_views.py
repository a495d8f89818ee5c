"""training.feature_views: the same training as without, from features that were computed once."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train_task
from data.images.decode import decode
from data.transforms.pipeline import Pipeline
from heads.build import load_head
from heads.run.checkpoint import load_tensors
from heads.train.recorder import RunRecorder

EPOCHS = 2
# Without dropout, which draws as it pleases, Adam, which makes whole steps of rounding errors, and what an
# epoch draws again, for which there are no further views.
CALM = [
    f"training.epochs={EPOCHS}",
    "classifier.dropout=0",
    "training.ema=0.5",
    "training.mix=null",
    "sampler.power=0",
    "optimiser={name: sgd, lr: 0.01}",
]


@pytest.fixture
def run(train: Callable, faces: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train gender frozen up to a stage, into a folder of that name; returns the run's folder."""

    def train_into(name: str, up_to: str, *more: object) -> Path:
        given = ["--data", faces / "train", "--runs", tmp_path / name, "--cache", tmp_path / "cache"]
        for setting in (*CALM, f"backbone.freeze={up_to}"):
            given += ["--set", setting]
        train("gender", *given, *more)
        return tmp_path / name / "gender"

    return train_into


def losses(folder: Path) -> list[float]:
    with (folder / "history.csv").open() as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("up_to", "tolerance"), [("all", 1e-5)])
def test_as_many_views_as_epochs_train_as_pixels_do(up_to: str, tolerance: float, run: Callable) -> None:
    plain, kept = run("plain", up_to), run("kept", up_to, "--set", f"training.feature_views={EPOCHS}")
    one, two = (load_tensors(folder / "best.safetensors")[0] for folder in (plain, kept))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value.float(), two[name].float(), rtol=tolerance, atol=tolerance), name
    assert losses(kept) == pytest.approx(losses(plain), rel=tolerance)
    answers = [np.load(folder / "validation.npz")["probabilities"] for folder in (plain, kept)]
    assert answers[1] == pytest.approx(answers[0], abs=tolerance)


def test_a_head_of_kept_features_answers_images(run: Callable, faces: Path) -> None:
    folder = run("kept", "all", "--set", "training.feature_views=1")
    opened = load_head(folder / "best.safetensors")
    with np.load(folder / "validation.npz") as saved:
        paths, expected = saved["path"].tolist(), saved["probabilities"]
    pipeline = Pipeline(opened.config.pixels.evaluate)
    shown = np.stack([pipeline(decode(Path(path)), (0,)).transpose(2, 0, 1) for path in paths])
    with torch.inference_mode():
        found = opened.target.probabilities(opened.head(torch.from_numpy(shown))).numpy()
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_run_that_goes_on_computes_nothing_again_and_ends_the_same(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = ["--set", "training.feature_views=1"]
    straight = run("straight", "all", *views)
    kept = {path: path.stat().st_ino for path in (tmp_path / "cache").glob("features-*")}
    assert len(kept) == 2  # to train on and to validate on
    after = RunRecorder.after_epoch

    def killed(self: RunRecorder, *arguments: Any) -> None:
        after(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunRecorder, "after_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            run("cut", "all", *views)
    resumed = run("cut", "all", *views, "--resume")
    one, two = (load_tensors(folder / "last.safetensors")[0] for folder in (straight, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert kept == {path: path.stat().st_ino for path in (tmp_path / "cache").glob("features-*")}


def test_what_it_needs_is_told(call: Callable, configs: Path, faces: Path, tmp_path: Path) -> None:
    given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train", "--runs", tmp_path]
    given += ["--set", "training.feature_views=1"]
    assert "needs backbone.freeze" in call(train_task, *given).err
    given += ["--set", "backbone.freeze=all"]
    outcome = call(train_task, *given)
    assert outcome.code == 2
    assert outcome.err == "error: training.feature_views: needs --cache DIR, where features are kept\n"
    mixed = call(train_task, *given, "--set", "training.mix={p: 0.5}")
    assert "training.mix needs pixels" in mixed.err
