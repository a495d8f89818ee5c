"""The loop: the same run bit for bit however it is cut or shared, and the best epoch by the right figure."""

import os
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from data.dataset import ImageDataset, Sample, SequentialIndices
from data.runtime.errors import InputError
from data.runtime.signals import StopSignal, handle_signals
from data.transforms.pipeline import Pipeline
from heads.objective.losses import make_loss
from heads.objective.targets import Target
from heads.run.checkpoint import load_state, save_state
from heads.train.loaders import make_loader
from heads.train.loop import Resize, TrainingData, WhenStopped, fit
from heads.train.optimiser import make_optimiser, make_schedule
from heads.train.progress import Progress
from heads.train.sampler import BalancedSampler
from heads.train.settings import FitSettings
from heads.train.state import TrainState, make_average
from heads.train.validation import Labels, Predictions, predict

pytestmark = pytest.mark.usefixtures("accelerate_anew")
TARGET = Target("colour", ("red", "green", "blue"))
EPOCHS, BATCH = 4, 5
TIMES = ("seconds", "images_per_second")


class Scripted(nn.Module):
    """A head that answers its validation, one batch an epoch, from a list of answers [epochs, N]."""

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.answers = [F.one_hot(torch.tensor(epoch), 3).float() for epoch in answers]
        self.asked = 0
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, pixels: Tensor) -> Tensor:
        if self.training:
            return self.bias.expand(len(pixels), 3)
        self.asked += 1
        return self.answers[self.asked - 1]


class Bytes(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float() / 255


def tiny_learner(seed: int = 0, ema: float = 0.0) -> TrainState:
    """Batch norm and dropout, as in a head; small."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(
        Bytes(), nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
    )
    classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32, 3))
    head = nn.Sequential(backbone, classifier)
    optimiser = make_optimiser(backbone, classifier, "adamw", 0.02, 0.5, 0.05)
    schedule = make_schedule(optimiser, "one_cycle", EPOCHS, 5, warmup=0.3)
    return TrainState(head, optimiser, schedule, make_average(head, ema) if ema else None)


def scripted_learner(answers: Sequence[Sequence[int]], lr: float = 0.1) -> TrainState:
    head = Scripted(answers)
    optimiser = SGD(head.parameters(), lr=lr)
    return TrainState(head, optimiser, LambdaLR(optimiser, lambda step: 1.0))


class Told:
    """Remembers what `fit` tells after each epoch; may save the state and then be killed."""

    def __init__(self, state: Path | None = None, killed_after: int | None = None) -> None:
        self.state, self.killed_after = state, killed_after
        self.predictions: list[Predictions | None] = []
        self.best: list[bool] = []

    def __call__(self, learner: TrainState, predictions: Predictions | None, is_best: bool) -> None:
        self.predictions.append(predictions)
        self.best.append(is_best)
        if self.state is not None:
            description = {"history": learner.history}
            save_state(self.state, learner.modules, learner.optimiser, learner.schedule, description)
        if len(learner.history) == self.killed_after:
            raise KeyboardInterrupt


def run_fit(
    learner: TrainState,
    squares: Any,
    told: Told,
    workers: int = 0,
    batch: int = BATCH,
    loss: nn.Module | None = None,
    when_stopped: WhenStopped | None = None,
    resizing: Resize | None = None,
    precision: str = "no",
    **plan: Any,
) -> None:
    labels = np.array([TARGET.classes.index(colour) for colour in squares.colours])
    steps = ["hflip", {"noise": {"std": 0.2, "p": 0.5}}, {"brightness_contrast": {"p": 0.5}}]
    train_set = ImageDataset(squares.paths, [Pipeline(steps)], torch.from_numpy(labels), seed=3)
    valid_set = ImageDataset(squares.paths, [Pipeline([])], torch.from_numpy(labels))
    sampler = BalancedSampler(labels, squares.persons, power=0.5, seed=3)
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    learner.head, learner.optimiser, train, valid = accelerator.prepare(
        learner.head,
        learner.optimiser,
        make_loader(train_set, sampler, batch, workers, 3),
        make_loader(valid_set, SequentialIndices(len(valid_set)), batch, workers, 3),
    )
    whole = FitSettings(**{"epochs": EPOCHS, "seed": 3, "clip_norm": 5.0} | plan)
    material = TrainingData(TARGET, train, valid, sampler, Labels(labels), resizing=resizing)
    fit(learner, material, loss or make_loss("focal", None), whole, accelerator, told, when_stopped)


def weights(learner: TrainState) -> dict[str, Tensor]:
    return {f"{n}/{k}": t for n, m in learner.modules.items() for k, t in m.state_dict().items()}


def assert_same_run(first: TrainState, second: TrainState) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []
    assert without_times(first) == without_times(second)


def without_times(learner: TrainState) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if k not in TIMES} for record in learner.history]


@pytest.fixture(scope="module")
def straight(squares: Any, accelerate_anew: None) -> TrainState:
    """A run without interruption, with dropout and an average of weights."""
    learner = tiny_learner(ema=0.8)
    run_fit(learner, squares, Told())
    return learner


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(
    squares: Any, straight: TrainState
) -> None:
    for workers in (0, 2):
        again = tiny_learner(ema=0.8)
        torch.rand(7)  # what others drew before must not matter
        run_fit(again, squares, Told(), workers)
        assert_same_run(again, straight)


def test_another_seed_gives_other_weights(squares: Any, straight: TrainState) -> None:
    other = tiny_learner(ema=0.8)
    run_fit(other, squares, Told(), seed=4)
    assert not torch.equal(weights(other)["head/0.1.weight"], weights(straight)["head/0.1.weight"])


def test_training_images_are_resized_by_the_epoch_and_validation_sees_whole_ones(squares: Any) -> None:
    learner = tiny_learner()
    heights: dict[bool, list[int]] = {True: [], False: []}

    def note(head: nn.Module, args: tuple[Tensor]) -> None:
        if (height := args[0].shape[2]) not in heights[head.training][-1:]:
            heights[head.training].append(height)

    learner.head.register_forward_pre_hook(note)
    run_fit(learner, squares, Told(), resizing=lambda pixels, epoch: pixels[:, :, : 8 + 2 * epoch])
    assert heights[True] == [8 + 2 * epoch for epoch in range(EPOCHS)]
    assert heights[False] == [32]


@pytest.fixture
def _other_precision() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


class Noting(nn.Module):
    """Every loss of three classes at once; keeps the logits and targets that it is given, and the losses."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Tensor, Tensor, Tensor]] = []

    @staticmethod
    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        classes = [
            make_loss(name, torch.tensor([1.0, 2.0, 5.0])) for name in ("focal", "cross_entropy", "soft_f1")
        ]
        ordinal = [make_loss(name, None) for name in ("coral", "corn")]
        numbers = make_loss("expectation", None)
        return torch.stack(
            [loss(logits, targets) for loss in classes]
            + [loss(logits[:, :2], targets) for loss in ordinal]
            + [numbers(logits, F.one_hot(targets, 3).float())]
        )

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses = self.losses(logits, targets)
        self.noted.append((logits.detach(), targets, losses.detach()))
        return losses.sum()


@pytest.mark.usefixtures("_other_precision")
def test_in_mixed_precision_the_head_computes_in_half_and_losses_in_single(squares: Any) -> None:
    learner, loss, kinds = tiny_learner(), Noting(), set()
    conv = learner.head.get_submodule("0.1")
    conv.register_forward_hook(lambda layer, _, made: kinds.add(made.dtype) if layer.training else None)
    run_fit(learner, squares, Told(), loss=loss, precision="bf16", epochs=1)
    assert kinds == {torch.bfloat16}
    for logits, targets, losses in loss.noted:
        assert logits.dtype == torch.float32
        assert torch.equal(logits, logits.bfloat16().float())  # as the head made them
        assert torch.equal(losses, Noting.losses(logits, targets))
    sizes = [len(targets) for _, targets, _ in loss.noted]
    mean = np.average([losses.sum().item() for *_, losses in loss.noted], weights=sizes)
    assert learner.history[0]["train_loss"] == pytest.approx(mean)


@pytest.mark.usefixtures("_other_precision")
@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_validation_is_in_single_precision_whatever_is_trained_in(squares: Any, ema: float) -> None:
    learner, told, kinds = tiny_learner(ema=ema), Told(), set()
    conv = learner.judged.get_submodule("0.1")
    conv.register_forward_hook(lambda layer, _, made: None if layer.training else kinds.add(made.dtype))
    run_fit(learner, squares, told, precision="bf16", epochs=1)
    assert kinds == {torch.float32}
    plain = tiny_learner(seed=1).head
    plain.load_state_dict(learner.judged.state_dict())
    images = ImageDataset(squares.paths, [Pipeline([])])
    pixels = torch.stack([images[0, row, 0].pixels[0] for row in range(len(images))])
    expected = predict(plain, TARGET, [Sample([batch], batch, "") for batch in pixels.split(BATCH)])
    [found] = told.predictions
    assert found is not None
    assert np.array_equal(found.probabilities, expected.probabilities)


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupted_run_goes_on_as_if_it_had_not_stopped(
    squares: Any, straight: TrainState, tmp_path: Path, epoch: int
) -> None:
    path = tmp_path / "last.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run_fit(tiny_learner(ema=0.8), squares, Told(path, killed_after=epoch))
    resumed = tiny_learner(seed=99, ema=0.8)
    resumed.history[:] = load_state(path, resumed.modules, resumed.optimiser, resumed.schedule)["history"]
    run_fit(resumed, squares, Told())
    assert [record["epoch"] for record in resumed.history] == [1, 2, 3, 4]
    assert_same_run(resumed, straight)


class Signalling(nn.Module):
    """The focal loss; sends a signal when it is asked for the n-th time."""

    def __init__(self, number: int, at: int) -> None:
        super().__init__()
        self.loss, self.number, self.left = make_loss("focal", None), number, at

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        value: Tensor = self.loss(logits, targets)
        return value


@pytest.mark.usefixtures("heeds_sigint")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 1), (signal.SIGTERM, 8), (signal.SIGINT, 15)])
def test_a_signal_in_the_middle_of_an_epoch_costs_no_step(
    squares: Any, straight: TrainState, tmp_path: Path, number: int, step: int, workers: int
) -> None:
    """Steps 1, 8 and 15 of 5 an epoch: the first of all, one in the middle, the last before validation."""
    path = tmp_path / "interrupted.safetensors"
    kept: list[Progress] = []

    def keep(learner: TrainState) -> str:
        description = {"history": learner.history, "progress": vars(learner.progress)}
        save_state(path, learner.modules, learner.optimiser, learner.schedule, description)
        kept.append(learner.progress)
        return "kept"

    with pytest.raises(StopSignal, match="kept"), handle_signals():
        run_fit(
            tiny_learner(ema=0.8), squares, Told(), workers, loss=Signalling(number, step), when_stopped=keep
        )
    assert [progress.steps for progress in kept] == [(step - 1) % 5 + 1]
    resumed = tiny_learner(seed=99, ema=0.8)
    description = load_state(path, resumed.modules, resumed.optimiser, resumed.schedule)
    resumed.history[:] = description["history"]
    resumed.progress = Progress.from_json(description["progress"])
    run_fit(resumed, squares, Told(), workers)
    assert [record["epoch"] for record in resumed.history] == [1, 2, 3, 4]
    assert_same_run(resumed, straight)


def test_progress_of_another_kind_is_refused() -> None:
    for value in (None, [], {}, vars(Progress()) | {"steps": "3"}, vars(Progress()) | {"more": 1}):
        with pytest.raises(InputError, match="progress is"):
            Progress.from_json(value)


def test_a_finished_run_has_nothing_left_to_do(squares: Any, straight: TrainState) -> None:
    told = Told()
    run_fit(straight, squares, told)
    assert told.best == []
    assert len(straight.history) == EPOCHS


def test_it_learns_and_its_history_has_what_happened(squares: Any) -> None:
    learner, told = tiny_learner(), Told()
    run_fit(learner, squares, told)
    assert learner.history[-1]["train_loss"] < learner.history[0]["train_loss"]
    assert learner.history[-1]["accuracy"] > 0.9
    keys = ["epoch", "lr", "train_loss", "macro_f1", "accuracy", *reversed(TIMES)]
    assert [list(record) for record in learner.history] == [keys] * EPOCHS


def test_validation_answers_for_every_row_also_of_the_last_part_of_a_batch(squares: Any) -> None:
    told = Told()
    run_fit(tiny_learner(), squares, told, epochs=1)
    assert len(squares.paths) % BATCH
    assert [len(p.probabilities) for p in told.predictions] == [len(squares.paths)]


def test_the_best_epoch_is_chosen_by_macro_f1_not_by_accuracy(squares: Any) -> None:
    uneven = type(squares)(
        squares.folder, squares.paths, ["red"] * 20 + ["green"] * 2 + ["blue"] * 2, squares.persons
    )
    all_red = [0] * 24
    fairer = [0] * 14 + [1] * 6 + [1, 1, 2, 2]
    learner, told = scripted_learner([all_red, fairer, all_red]), Told()
    run_fit(learner, uneven, told, batch=24, epochs=3)
    accuracies, f1s = ([record[key] for record in learner.history] for key in ("accuracy", "macro_f1"))
    assert accuracies[0] > accuracies[1]
    assert f1s[0] < f1s[1]
    assert told.best == [True, True, False]
    assert FitSettings(3).best(learner.history) == 1


def test_patience_ends_a_run_that_no_longer_gets_better(squares: Any) -> None:
    right = [TARGET.classes.index(colour) for colour in squares.colours]
    wrong = [(label + 1) % 3 for label in right]
    half = right[:12] + wrong[12:]
    learner, told = scripted_learner([half, right, half, right, wrong, right]), Told()
    run_fit(learner, squares, told, batch=24, epochs=6, patience=2)
    assert told.best == [True, True, False, False]  # an equal figure is not a better one


def test_patience_counts_on_after_an_interruption(squares: Any) -> None:
    learner = scripted_learner([[0] * 24] * 4)
    learner.history = [{"macro_f1": 0.9}, {"macro_f1": 0.8}]
    run_fit(learner, squares, Told(), batch=24, epochs=6, patience=2)
    assert len(learner.history) == 3


def test_validating_less_often_changes_nothing_else(squares: Any, straight: TrainState) -> None:
    learner, told = tiny_learner(ema=0.8), Told()
    run_fit(learner, squares, told, validate_every=2)
    assert [predictions is not None for predictions in told.predictions] == [False, True, False, True]
    assert weights(learner).keys() == weights(straight).keys()
    assert all(torch.equal(tensor, weights(straight)[name]) for name, tensor in weights(learner).items())
    figures = ("macro_f1", "accuracy")
    for epoch, (seldom, always) in enumerate(zip(*map(without_times, (learner, straight)), strict=True)):
        told_of = always if epoch % 2 else {k: v for k, v in always.items() if k not in figures}
        assert seldom == told_of


@pytest.mark.parametrize(("epochs", "every"), [(5, 2), (5, 5), (3, 7), (4, 1)])
def test_the_last_epoch_is_always_validated(epochs: int, every: int) -> None:
    plan = FitSettings(epochs, validate_every=every)
    validated = [epoch for epoch in range(epochs) if plan.validates(epoch)]
    assert validated == sorted(range(epochs - 1, -1, -every))


def test_an_epoch_without_validation_is_never_the_best_and_costs_no_patience(squares: Any) -> None:
    right = [TARGET.classes.index(colour) for colour in squares.colours]
    wrong = [(label + 1) % 3 for label in right]
    learner, told = scripted_learner([wrong, right, wrong, right]), Told()
    run_fit(learner, squares, told, batch=24, epochs=8, patience=1, validate_every=2)
    assert told.best == [False, True, False, True, False, False]
    assert FitSettings(8, validate_every=2).best(learner.history) == 3


def test_an_error_is_better_the_lower_it_is() -> None:
    history = [{"mae": 9.0, "macro_f1": 0.9}, {"mae": 7.0, "macro_f1": 0.1}, {"mae": 7.0, "macro_f1": 0.1}]
    assert FitSettings(3, "mae").best(history) == 1
    assert FitSettings(3, "macro_f1").best(history) == 0
    assert FitSettings(3, "mae").best([{"train_loss": 0.0}, *history]) == 2


class Steep(nn.Module):
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return 1000 * logits[:, 0].mean()


def test_a_clipped_step_is_no_longer_than_the_norm(squares: Any) -> None:
    learner = scripted_learner([[0] * 24], lr=1.0)
    run_fit(learner, squares, Told(), batch=24, loss=Steep(), epochs=1, clip_norm=0.25)
    assert learner.head.get_parameter("bias").norm().item() == pytest.approx(0.25, rel=1e-3)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.sum() + 1e3) * self.factor


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_finite_number_ends_the_run_with_advice(squares: Any, factor: float) -> None:
    learner, told = tiny_learner(), Told()
    before = {name: tensor.clone() for name, tensor in weights(learner).items() if "running" not in name}
    with pytest.raises(InputError) as refused:
        run_fit(learner, squares, told, loss=Times(factor))
    expected = rf"epoch 1: the loss is {factor}, expected finite numbers; lower optimiser\.lr"
    assert re.match(expected, str(refused.value))
    assert told.best == []
    # The step that would have spoilt the weights was not taken.
    assert all(
        torch.equal(tensor, weights(learner)[name]) for name, tensor in before.items() if "num_b" not in name
    )


def test_the_average_is_the_exponential_one_of_weights_and_statistics() -> None:
    model = nn.BatchNorm1d(2)
    average = make_average(model, 0.75)
    expected = None
    for updates in range(40):  # from the 26th on the decay is 0.75
        value = float(updates % 7)
        nn.init.constant_(model.weight, value)
        nn.init.constant_(model.running_mean, 10 * value)
        average.update_parameters(model)
        decay = min(0.75, (1 + updates) / (10 + updates))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert average.module.weight.tolist() == pytest.approx([expected] * 2)
    assert average.module.running_mean.tolist() == pytest.approx([10 * expected] * 2)


def test_the_average_of_a_short_run_is_not_its_first_weights() -> None:
    model = nn.Linear(1, 1)
    average = make_average(model, 0.998)
    for value in [0.0] + [1.0] * 200:  # 0.998 ** 200 is 0.67
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(1.0, abs=1e-6)
