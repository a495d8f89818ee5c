"""The loop: reproducible training, precision, validation, the best epoch, early stopping, and errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from data.dataset import ImageDataset, SequentialIndices
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.objective.losses import WeightedSum, make_loss
from heads.objective.targets import Target
from heads.run.jobs import THREADS_FILE
from heads.train.distributed import prepare
from heads.train.loaders import ProcessBatches, make_loader
from heads.train.loop import FitSettings, TrainingData, ValidationOutput, fit, predict
from heads.train.optimiser import make_average, make_optimiser, make_schedule
from heads.train.sampler import BalancedSampler
from heads.train.state import TrainState

pytestmark = pytest.mark.usefixtures("accelerate_anew")
TARGET = Target("colour", ("red", "green", "blue"))
AGE = Target("age", ("under 30", "30 to 59", "60 and over"), (30.0, 60.0), (0, 100), 3.0)
EPOCHS, BATCH = 4, 5


@dataclass
class Outputs:
    """Callbacks that store what `fit` passes."""

    outputs: list[ValidationOutput | None] = field(default_factory=list)
    best: list[bool] = field(default_factory=list)

    def after_epoch(self, state: TrainState, output: ValidationOutput | None, is_best: bool) -> None:
        self.outputs.append(output)
        self.best.append(is_best)

    def on_stop(self, state: TrainState) -> str:
        return ""


class Scripted(nn.Module):
    """A head whose validation logits, one batch per epoch, are a list of class indices [epochs, N]."""

    def __init__(self, epochs: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.logits = iter(F.one_hot(torch.tensor(epoch), 3).float() for epoch in epochs)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.bias.expand(len(pixels), 3) if self.training else next(self.logits)


class Bytes(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float() / 255


def tiny_state(seed: int = 0, ema: float = 0.8) -> TrainState:
    """A small head with batch norm and dropout."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(Bytes(), nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32, 3))
    head = nn.Sequential(backbone, classifier)
    optimiser = make_optimiser(backbone, classifier, "adamw", 0.02, 0.5, 0.05)
    schedule = make_schedule(optimiser, "one_cycle", EPOCHS, 5, warmup=0.3)
    return TrainState(head, optimiser, schedule, make_average(head, ema) if ema else None)


def scripted_state(epochs: Sequence[Sequence[int]]) -> TrainState:
    optimiser = SGD((head := Scripted(epochs)).parameters(), lr=1.0)
    return TrainState(head, optimiser, LambdaLR(optimiser, lambda step: 1.0))


def run_fit(
    state: TrainState,
    squares: Any,
    batch: int = BATCH,
    loss: nn.Module | None = None,
    precision: str = "no",
    scaler: torch.amp.GradScaler | None = None,
    **settings: Any,
) -> Outputs:
    labels = np.array([TARGET.classes.index(colour) for colour in squares.colours])
    steps = ["hflip", {"noise": {"std": 0.2, "p": 0.5}}, {"brightness_contrast": {"p": 0.5}}]
    train_set = ImageDataset(squares.paths, [Pipeline(steps)], torch.from_numpy(labels), seed=3)
    valid_set = ImageDataset(squares.paths, [Pipeline([])])
    sampler, rows = BalancedSampler(labels, squares.persons, power=0.5, seed=3), SequentialIndices(len(labels))
    train = make_loader(train_set, ProcessBatches(sampler, batch), 0, 3)
    valid = make_loader(valid_set, ProcessBatches(rows, batch, whole=True), 0, 3)
    accelerator, outputs = Accelerator(cpu=True, mixed_precision=precision), Outputs()
    accelerator.scaler = scaler
    state.head, state.optimiser = prepare(state.head, state.optimiser, accelerator)
    all_settings = FitSettings(**{"epochs": EPOCHS, "seed": 3, "clip_norm": 5.0} | settings)
    data = TrainingData(TARGET, train, valid, sampler, labels)
    fit(state, data, loss or WeightedSum([make_loss("focal")], [1.0]), all_settings, accelerator, outputs)
    return outputs


def test_it_learns_and_writes_its_history(squares: Any) -> None:
    run_fit(state := tiny_state(), squares)
    first, *_, last = state.history
    assert last["train_loss"] < first["train_loss"]
    assert last["accuracy"] > 0.9
    keys = ["epoch", "lr", "train_loss", "macro_f1", "accuracy", "images_per_second", "seconds"]
    assert [list(record) for record in state.history] == [keys] * EPOCHS
    assert run_fit(state, squares).best == []  # nothing is left to do


def test_training_and_validation_follow_the_share_of_the_cores(
    squares: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch an epoch, each followed by a validation."""
    before, file, threads, state = torch.get_num_threads(), tmp_path / "threads", [], tiny_state()
    monkeypatch.setenv(THREADS_FILE, str(file))
    shares = iter([1, 1, 2, 2])

    def note(head: nn.Module, *_: Any) -> None:
        threads.append((head.training, torch.get_num_threads()))
        file.write_text(str(next(shares, 1)))

    for head in (state.head, state.average.module):
        head.register_forward_hook(note)
    try:
        file.write_text("2")
        run_fit(state, squares, batch=len(squares.paths), epochs=3)
    finally:
        torch.set_num_threads(before)
    assert threads == [(True, 2), (False, 1), (True, 1), (False, 2), (True, 2), (False, 1)]


def test_validation_is_of_the_average_in_single_precision_and_steps_are_in_half(squares: Any) -> None:
    """Every image is validated, also those of the last, smaller batch."""
    state, modes, noted = tiny_state(), set(), []
    for head in (state.head, state.eval_head):
        conv = head.get_submodule("0.1")
        conv.register_forward_hook(lambda layer, _, output: modes.add((layer.training, output.dtype)))
    loss = WeightedSum([make_loss("focal")], [1.0])
    loss.register_forward_hook(lambda _, inputs, output: noted.append((*inputs, output.detach())))
    [output] = run_fit(state, squares, loss=loss, precision="bf16", epochs=1).outputs
    assert modes == {(True, torch.bfloat16), (False, torch.float32)}
    plain = tiny_state(seed=1, ema=0.0).head
    plain.load_state_dict(state.average.module.state_dict())
    images = ImageDataset(squares.paths, [Pipeline([])])
    pixels = torch.stack([images[0, row, 0].pixels[0] for row in range(len(images))])
    assert np.array_equal(output.probabilities, predict(plain, TARGET, pixels.split(BATCH)).probabilities)
    for logits, targets, value in noted:
        assert logits.dtype == torch.float32
        assert torch.equal(logits, logits.bfloat16().float())  # as the head computed them
        assert torch.equal(value, make_loss("focal")(logits, targets, None))
    mean = np.average([value.item() for *_, value in noted], weights=[len(logits) for logits, *_ in noted])
    assert state.history[0]["train_loss"] == pytest.approx(mean)


def test_a_step_that_the_gradient_scaler_skips_moves_neither_schedule_nor_average(squares: Any) -> None:
    state, loss = tiny_state(), WeightedSum([make_loss("focal")], [32.0])  # the first gradients overflow
    run_fit(state, squares, loss=loss, scaler=torch.amp.GradScaler("cpu", init_scale=2.0**127))
    assert state.average is not None
    [taken] = {int(slots["step"]) for slots in state.optimiser.state.values()}
    assert 0 < taken < 5 * EPOCHS
    assert taken == state.schedule.last_epoch == state.average.n_averaged


def test_the_best_epoch_is_chosen_by_macro_f1_not_by_accuracy(squares: Any) -> None:
    uneven = type(squares)(squares.folder, squares.paths, ["red"] * 20 + ["green"] * 2 + ["blue"] * 2, squares.persons)
    all_red, fairer = [0] * 24, [0] * 14 + [1] * 6 + [1, 1, 2, 2]
    state = scripted_state([all_red, fairer, all_red])
    assert run_fit(state, uneven, batch=24, epochs=3).best == [True, True, False]
    assert state.history[0]["accuracy"] > state.history[1]["accuracy"]
    assert state.history[0]["macro_f1"] < state.history[1]["macro_f1"]


def test_early_stopping_waits_for_patience_epochs_without_a_better_one(squares: Any) -> None:
    right = [TARGET.classes.index(colour) for colour in squares.colours]
    wrong = [(label + 1) % 3 for label in right]
    half = right[:12] + wrong[12:]
    state = scripted_state([half, right, half, right, wrong, right])
    assert run_fit(state, squares, batch=24, epochs=6, patience=2).best == [True, True, False, False]
    resumed = scripted_state([[0] * 24] * 4)
    resumed.history = [{"macro_f1": 0.9}, {"macro_f1": 0.8}]
    assert len(run_fit(resumed, squares, batch=24, epochs=6, patience=2).best) == 1
    seldom = scripted_state([wrong, right, wrong, right])
    outputs = run_fit(seldom, squares, batch=24, epochs=8, patience=1, validate_every=2)
    assert outputs.best == [False, True, False, True, False, False]


@pytest.mark.parametrize(("epochs", "every"), [(5, 2), (5, 5), (3, 7), (4, 1)])
def test_the_last_epoch_is_always_validated(epochs: int, every: int) -> None:
    validated = [epoch for epoch in range(epochs) if FitSettings(epochs, validate_every=every).validates(epoch)]
    assert validated == sorted(range(epochs - 1, -1, -every))


def test_the_best_epoch_is_the_first_with_the_lowest_error_or_the_highest_f1() -> None:
    scores = [(9.0, 0.9), (7.0, 0.1), (7.0, 0.1)]
    history = [{"train_loss": 0.0}, *({"mae": mae, "macro_f1": macro_f1} for mae, macro_f1 in scores)]
    assert (FitSettings(4, "mae").best_epoch(history), FitSettings(4).best_epoch(history)) == (2, 1)


class Scaled(nn.Module):
    """A loss that is a function of the mean first logit."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.function(logits[:, 0].mean())


def test_a_clipped_step_is_no_longer_than_the_norm(squares: Any) -> None:
    state = scripted_state([[0] * 24])
    run_fit(state, squares, batch=24, loss=Scaled(lambda mean: 1000 * mean), epochs=1, clip_norm=0.25)
    assert state.head.get_parameter("bias").norm().item() == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_ends_the_run_before_the_step(squares: Any, factor: float) -> None:
    state = tiny_state()
    before = {name: parameter.clone() for name, parameter in state.head.named_parameters()}
    with pytest.raises(InputError, match=rf"epoch 1: the loss is {factor}, expected finite .* lower optimiser\.lr"):
        run_fit(state, squares, loss=Scaled(lambda mean: (mean + 1e3) * factor))
    assert state.history == []
    assert all(torch.equal(parameter, before[name]) for name, parameter in state.head.named_parameters())


def test_predictions_are_in_the_order_of_the_batches_and_of_numbers_too() -> None:
    logits = torch.randn(7, 3)
    output = predict(nn.Identity(), TARGET, logits.split(4))
    assert np.allclose(output.probabilities, logits.softmax(dim=1).numpy())
    assert output.expected is None
    ages = AGE.encode(pd.DataFrame({"path": ["a", "b"], "age": [25.0, 61.0]})).log()
    output = predict(nn.Identity(), AGE, [ages])
    assert output.expected == pytest.approx([25.0, 61.0], abs=1e-3)
    assert output.probabilities.argmax(axis=1).tolist() == [0, 2]
    assert predict(nn.Identity(), AGE, []).probabilities.shape == (0, 3)


@pytest.mark.parametrize("training", [True, False])
def test_predicting_leaves_mode_and_statistics_as_they_were(training: bool) -> None:
    head = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train(training)
    before = {key: tensor.clone() for key, tensor in head.state_dict().items()}
    first, second = (predict(head, TARGET, [torch.ones(8, 3)]).probabilities for _ in range(2))
    assert np.array_equal(first, second)
    with pytest.raises(RuntimeError):
        predict(head, TARGET, [torch.ones(8, 4)])
    assert [module.training for module in head.modules()] == [training] * 3
    assert all(torch.equal(tensor, before[key]) for key, tensor in head.state_dict().items())
