"""A run that is interrupted at any moment and resumed equals one that was not."""

import os
import re
import signal
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

import heads.train.loop
from data.dataset import ImageDataset
from data.runtime.signals import StopSignal, handle_signals
from data.transforms.pipeline import Pipeline
from heads.build import load_head
from heads.run.checkpoint import load_tensors, save_state
from heads.run.folder import RunFolder, run_folder
from heads.train.loop import predict
from heads.train.recorder import RunRecorder
from train_task import train

pytestmark = pytest.mark.usefixtures("heeds_sigint", "accelerate_anew", "tiny_backbone")
FEATURES = ("backbone.freeze=all", "training.feature_views=2")
Train = Callable[..., RunFolder]


@pytest.fixture
def run(squares: Any, colour_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train a head for the colours of squares in a folder of the given name."""
    # Event files are read by their names, which of one process and second count up to 9 in order.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    (tmp_path / "colour.yaml").write_text(colour_config().to_yaml(), encoding="utf-8")

    def train_into(name: str, *settings: str, workers: int = 0, resume: bool = False) -> RunFolder:
        options = {"task": "colour", "config": tmp_path / "colour.yaml", "data": [squares.folder], "fold": None}
        options |= {"cache": tmp_path / "cache", "cache_limit": 10**8, "boxes": None, "box_margin": 0.0}
        overrides = [
            *settings,
            f"training.workers={workers}",
            f"pixels.train=[{LETTERBOX}, hflip, {{noise: {{}}}}]",
        ]
        overrides += [f"pixels.evaluate=[{LETTERBOX}]"]
        more = {"runs": tmp_path / name, "resume": resume, "set": overrides, "on_bad_image": "stop"}
        with handle_signals():
            train(Namespace(**options, **more))
        return run_folder(tmp_path / name, "colour")

    return train_into


LETTERBOX = "{letterbox: {height: 36, width: 36}}"


def after(number: int, inner: Callable, action: Callable[[], None], before: bool = False) -> Callable:
    """Wrap a function: `action` runs in its n-th call, after or before the function itself."""
    left = [number]

    def wrapped(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if before and not left[0]:
            action()
        result = inner(*arguments, **named)
        if not before and not left[0]:
            action()
        return result

    return wrapped


def fail() -> None:
    raise KeyboardInterrupt


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@contextmanager
def interrupted(kind: str) -> Iterator[None]:
    """Interrupt a run: after its first epoch, while the second is written, or by a signal in a step of 3 an epoch."""
    patches = {
        "epoch": (RunRecorder, "after_epoch", after(1, RunRecorder.after_epoch, fail)),
        "writing": (heads.train.recorder, "save_state", after(2, save_state, fail, before=True)),
        "SIGINT 1": (heads.train.loop, "_step", after(1, heads.train.loop._step, send(signal.SIGINT))),
        "SIGTERM 5": (heads.train.loop, "_step", after(5, heads.train.loop._step, send(signal.SIGTERM))),
        "SIGINT 9": (heads.train.loop, "_step", after(9, heads.train.loop._step, send(signal.SIGINT))),
    }
    with patch.object(*patches[kind]), pytest.raises((KeyboardInterrupt, StopSignal)) as stop:
        yield
    if kind.startswith("SIG"):
        assert re.search(
            rf"stopped by {kind.split()[0]}; state saved after epoch \d and \d of 3 steps", str(stop.value)
        )


def assert_same_run(one: RunFolder, two: RunFolder) -> None:
    for file in ("best.safetensors", "last.safetensors"):
        first, second = load_tensors(one.folder / file)[0], load_tensors(two.folder / file)[0]
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
    histories = [pd.read_csv(run.history).drop(columns=["seconds", "images_per_second"]) for run in (one, two)]
    pd.testing.assert_frame_equal(*histories)
    assert histories[1]["epoch"].tolist() == [1, 2, 3]
    with np.load(one.validation) as first, np.load(two.validation) as second:
        assert all(np.array_equal(first[name], second[name]) for name in first.files)
    events = EventAccumulator(str(two.events)).Reload().Scalars("macro_f1")
    assert [event.step for event in events] == [1, 2, 3]  # an epoch that is repeated replaces its events
    assert [event.value for event in events] == pytest.approx(histories[1]["macro_f1"].tolist())
    assert not two.interrupted.exists()


@pytest.mark.parametrize(
    ("kinds", "settings", "workers"),
    [
        (["epoch"], (), 0),
        (["writing"], (), 0),
        (["SIGINT 1"], (), 0),
        (["SIGTERM 5"], (), 2),
        (["SIGINT 9", "epoch"], ("training.mix={method: halves}",), 0),
        (["SIGTERM 5", "SIGINT 1"], FEATURES, 0),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    run: Train, kinds: list[str], settings: tuple[str, ...], workers: int
) -> None:
    whole = run("whole", *settings)
    for number, kind in enumerate(kinds):
        with interrupted(kind):
            run("parts", *settings, workers=workers, resume=number > 0)
    assert_same_run(whole, run("parts", *settings, resume=True))


def test_the_best_head_gives_its_validation_probabilities_on_images(run: Train) -> None:
    folder = run("whole", *FEATURES)
    head = load_head(folder.best)
    with np.load(folder.validation) as saved:
        paths, probabilities = saved["path"].tolist(), saved["probabilities"]
    images = ImageDataset(paths, [Pipeline(head.config.pixels.evaluate)])
    pixels = torch.stack([images[(0, row, 0)].pixels[0] for row in range(len(paths))])
    assert np.allclose(predict(head.head, head.target, [pixels]).probabilities, probabilities, atol=1e-5)


def test_as_many_feature_views_as_epochs_train_as_images_do(run: Train) -> None:
    """Without dropout, which draws differently, and images that an epoch draws again, for which there are no views."""
    calm = ("classifier.dropout=0", "sampler.power=0", "optimiser={name: sgd, lr: 0.01}", "backbone.freeze=all")
    images, features = run("images", *calm), run("features", *calm, "training.feature_views=3")
    one, two = (load_tensors(folder.best)[0] for folder in (images, features))
    assert all(torch.allclose(tensor, two[name], rtol=1e-5, atol=1e-5) for name, tensor in one.items())
    losses = [pd.read_csv(folder.history)["train_loss"].tolist() for folder in (images, features)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
