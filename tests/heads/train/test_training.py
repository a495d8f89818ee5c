"""Whole trainings of a tiny head: one that is interrupted at any moment and resumed equals one that was not."""

import gc
import os
import re
import shutil
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
from data.runtime.errors import InputError
from data.runtime.signals import StopSignal, handle_signals
from data.transforms.pipeline import Pipeline
from heads.load import load_head
from heads.run.checkpoint import load_tensors, save_state, save_tensors
from heads.run.folder import RunFolder, run_folder
from heads.train.loop import predict
from heads.train.recorder import RunRecorder
from train_task import train

pytestmark = pytest.mark.usefixtures("heeds_sigint", "accelerate_anew", "tiny_backbone")
LETTERBOX = "{letterbox: {height: 36, width: 36}}"
STEPS = [
    f"pixels.train=[{LETTERBOX}, hflip, {{noise: {{}}}}]",
    f"pixels.evaluate=[{LETTERBOX}]",
    "training.batch_size=5",
]
FEATURES = ("backbone.freeze=all", "training.feature_views=2")
# Without dropout, which draws differently, and images drawn again, for which there are no views.
CALM = ("classifier.dropout=0", "sampler.power=0", "optimiser={name: sgd, lr: 0.01}", "backbone.freeze=all")
Train = Callable[..., RunFolder]


@pytest.fixture
def run(squares: Any, colour_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train a head for the colours of squares, 3 epochs of 3 steps, in a folder of the given name."""
    # Event files are read by their names, which of one process and second count up to 9 in order.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    (tmp_path / "colour.yaml").write_text(colour_config().to_yaml(), encoding="utf-8")

    def train_into(name: str, *settings: str, **options: Any) -> RunFolder:
        values = {"task": "colour", "config": tmp_path / "colour.yaml", "data": [squares.folder], "fold": None}
        values |= {"runs": tmp_path / name, "cache": tmp_path / "cache", "cache_limit": 10**8, "resume": False}
        values |= {"boxes": None, "box_margin": 1.0, "on_bad_image": "stop", "set": [*STEPS, *settings]} | options
        with handle_signals():
            train(Namespace(**values))
        return run_folder(tmp_path / name, "colour")

    return train_into


def in_call(number: int, inner: Callable, action: Callable[[], None], before: bool = False) -> Callable:
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


@contextmanager
def interrupted(kind: str) -> Iterator[None]:
    """Interrupt a run: after its first epoch, while the second is written, or by a signal in a step."""
    name, _, step = kind.partition(" ")
    if name == "epoch":
        patches = RunRecorder, "after_epoch", in_call(1, RunRecorder.after_epoch, fail)
    elif name == "writing":
        patches = heads.train.recorder, "save_state", in_call(2, save_state, fail, before=True)
    else:
        number = signal.Signals[name]
        action = in_call(int(step), heads.train.loop._step, lambda: os.kill(os.getpid(), number))
        patches = heads.train.loop, "_step", action
    with patch.object(*patches), pytest.raises((KeyboardInterrupt, StopSignal)) as stop:
        yield
    message = str(stop.value)
    del stop
    gc.collect()  # ends the workers of the loaders that the traceback holds, as run_script does
    assert not step or re.match(rf"stopped by {name}; state saved after epoch \d and \d of 3 steps", message)


def assert_same_run(one: RunFolder, two: RunFolder) -> None:
    for file in ("best.safetensors", "last.safetensors"):
        first, second = load_tensors(one.folder / file)[0], load_tensors(two.folder / file)[0]
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
    histories = [pd.read_csv(run.history).drop(columns=["seconds", "images_per_second"]) for run in (one, two)]
    pd.testing.assert_frame_equal(*histories)
    with np.load(one.validation) as first, np.load(two.validation) as second:
        assert all(np.array_equal(first[name], second[name]) for name in first.files)
    events = EventAccumulator(str(two.events)).Reload().Scalars("macro_f1")
    assert [event.step for event in events] == histories[1]["epoch"].tolist() == [1, 2, 3]  # none is doubled
    assert [event.value for event in events] == pytest.approx(histories[1]["macro_f1"].tolist())
    assert not two.interrupted.exists()


@pytest.mark.parametrize(
    ("kinds", "settings"),
    [
        (["epoch"], ()),
        (["writing"], ()),
        (["SIGINT 1"], ()),
        (["SIGTERM 5"], ("training.workers=2",)),
        (["SIGINT 9", "epoch"], ("training.mix={method: halves}",)),
        (["SIGTERM 5", "SIGINT 1"], FEATURES),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(run: Train, kinds: list[str], settings: tuple[str, ...]) -> None:
    whole = run("whole", *settings)
    for number, kind in enumerate(kinds):
        with interrupted(kind):
            run("parts", *settings, resume=number > 0)
    assert_same_run(whole, run("parts", *settings, "training.workers=0", resume=True))


def test_a_cache_changes_no_weights_and_is_shared(run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = run("plain", cache=None), run("cached")
    assert capsys.readouterr().out.count("decoding 24 images once") == 1
    assert_same_run(first, second)
    run("again", "training.seed=1")
    assert "decoding" not in capsys.readouterr().out
    with pytest.raises(InputError, match="do not both letterbox to one size"):
        run("other", "pixels.train=[{resize: {height: 36, width: 36}}]")
    with pytest.raises(InputError, match=r"training\.feature_views: needs --cache DIR"):
        run("other", *FEATURES, cache=None)


def test_as_many_feature_views_as_epochs_train_as_images_do(run: Train) -> None:
    images, features = run("images", *CALM), run("features", *CALM, "training.feature_views=3")
    one, two = (load_tensors(folder.best)[0] for folder in (images, features))
    assert all(torch.allclose(tensor, two[name], rtol=1e-5, atol=1e-5) for name, tensor in one.items())
    losses = [pd.read_csv(folder.history)["train_loss"].tolist() for folder in (images, features)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    head = load_head(features.best)
    with np.load(features.validation) as saved:
        paths, probabilities = saved["path"].tolist(), saved["probabilities"]
    dataset = ImageDataset(paths, [Pipeline(head.config.pixels.evaluate)])
    pixels = torch.stack([dataset[(0, row, 0)].pixels[0] for row in range(len(paths))])
    assert np.allclose(predict(head.head, head.target, [pixels]).probabilities, probabilities, atol=1e-5)


def test_a_run_resumes_with_its_own_images_boxes_and_backbone_alone(
    run: Train, squares: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run("base", "training.epochs=1")
    shutil.copytree(base.folder, tmp_path / "runs" / "base")
    settings = (*FEATURES, "training.epochs=1", "backbone.weights=run:base")
    for fold in (1, 0):
        run("runs", *settings, f"split.fold={fold}")
        leaked = "this backbone was trained on 4 people in the head's validation set" in capsys.readouterr().err
        assert leaked == (fold == 1)
    (tmp_path / "moved").symlink_to(squares.folder)
    run("runs", *settings, resume=True, data=[tmp_path / "moved"])
    rows = [f"{path},1,1,30,30" for path in squares.paths]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,x0,y0,x1,y1", *rows]) + "\n")
    with pytest.raises(InputError, match=r"images or weights.*\n  --boxes.*\n  --box-margin"):
        run("runs", *settings, resume=True, boxes=tmp_path / "boxes.csv")
    tensors, description = load_tensors(tmp_path / "runs" / "base" / "best.safetensors")
    tensors["backbone.conv1.weight"] *= -1
    save_tensors(tmp_path / "runs" / "base" / "best.safetensors", tensors, description)
    with pytest.raises(InputError, match=r"images or weights.*\n  frozen backbone"):
        run("runs", *settings, resume=True)


def test_validating_less_often_changes_nothing_else(run: Train) -> None:
    always, seldom = run("always"), run("seldom", "training.validate_every=2", "training.workers=2")
    one, two = (load_tensors(folder.last)[0] for folder in (always, seldom))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert pd.read_csv(seldom.history)["macro_f1"].isna().tolist() == [False, True, False]
    other = load_tensors(run("other", "training.seed=1").last)[0]
    assert not torch.equal(one["head/backbone.conv1.weight"], other["head/backbone.conv1.weight"])
