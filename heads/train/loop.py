"""Train one head: the loop over epochs, one epoch, one step, and validation."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor, nn
from tqdm import tqdm

from data.loader import Loader
from data.runtime.errors import InputError
from data.runtime.signals import StopSignal, defer_signals
from heads.objective.metrics import compute_metrics
from heads.objective.targets import Target
from heads.run.jobs import use_thread_share
from heads.train.loaders import ProcessBatches
from heads.train.sampler import BalancedSampler
from heads.train.state import EpochProgress, Record, TrainState

Mixing = Callable[[Tensor, Tensor, Sequence[int]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FitSettings:
    """How many epochs to train, which of them to validate, how to choose the best one, when to stop.

    Attributes:
        select_by: macro_f1, or mae, of which lower values are better.
        validate_every: epochs between validations, counted back from the last epoch.
        patience: epochs without a better one until early stopping; None: it does not stop early.
        clip_norm: largest norm of the gradient; None: not clipped.
    """

    epochs: int
    select_by: str = "macro_f1"
    validate_every: int = 1
    patience: int | None = None
    clip_norm: float | None = None
    seed: int = 0

    def validates(self, epoch: int) -> bool:
        """Whether the head is validated after `epoch` (from 0); it always is after the last."""
        return (self.epochs - 1 - epoch) % self.validate_every == 0

    def best_epoch(self, history: list[Record]) -> int:
        """Index of the best epoch, the earliest of equals; epochs without validation rank last."""
        sign = -1.0 if self.select_by == "mae" else 1.0
        scores = [sign * record[self.select_by] if self.select_by in record else -np.inf for record in history]
        return int(np.argmax(scores))

    def stops_early(self, history: list[Record]) -> bool:
        """Whether the last epoch was validated and the best one is at least `patience` epochs before it."""
        last = len(history) - 1
        if self.patience is None or last < 0 or not self.validates(last):
            return False
        return last - self.best_epoch(history) >= self.patience


@dataclass(frozen=True)
class TrainingData:
    """Training and validation batches of one process, and the validation labels.

    Attributes:
        target: meaning of the logits.
        sampler: of `train`; `fit` sets its epoch.
        labels: class indices of the validation set, [N].
        values: its numbers if the target is a distribution, [N].
        mixing: mixes pixels and targets of a training batch, given numbers that seed it; None: not mixed.
    """

    target: Target
    train: Loader
    valid: Loader
    sampler: BalancedSampler
    labels: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64] | None = None
    mixing: Mixing | None = None


@dataclass(frozen=True)
class ValidationOutput:
    """Predictions of the validation set, in its order.

    Attributes:
        probabilities: [N, C], rows sum to 1.
        expected: predicted numbers [N] if the target is a distribution.
    """

    probabilities: npt.NDArray[np.float32]
    expected: npt.NDArray[np.float32] | None = None


class Callbacks(Protocol):
    """What `fit` calls, in the main process."""

    def after_epoch(self, state: TrainState, output: ValidationOutput | None, is_best: bool) -> None:
        """Handle the end of an epoch; `output` is None if it was not validated."""

    def on_stop(self, state: TrainState) -> str:
        """Save the state when a signal stops the run between two steps; return a message for the user."""


def fit(
    state: TrainState,
    data: TrainingData,
    loss: nn.Module,
    settings: FitSettings,
    accelerator: Accelerator,
    callbacks: Callbacks,
) -> None:
    """Train until the last epoch or early stopping, from the state's epoch and step on.

    Steps are computed in the accelerator's precision; losses and validation in single precision.

    Args:
        state: changed in place; head and optimiser are prepared by `heads.train.distributed.prepare`.
        loss: (logits, targets) -> scalar; of the whole batch if processes share it.

    Raises:
        InputError: the loss or the predictions are not finite.
        StopSignal: a signal stopped the run.
    """
    started = time.perf_counter()
    try:
        for epoch in range(len(state.history), settings.epochs):
            if settings.stops_early(state.history):
                break
            # Seeded every epoch, so that a resumed run draws the same dropout; differently in each process.
            torch.manual_seed(settings.seed * 100_003 + epoch + accelerator.process_index * 1_000_000_007)
            data.sampler.epoch = epoch
            train_loss = _train_epoch(state, data, loss, settings, accelerator)
            trained = time.perf_counter()
            output = _validate(state.eval_head, data, accelerator) if settings.validates(epoch) else None
            metrics: Record = {}
            if output is not None:
                metrics = compute_metrics(output.probabilities, data.labels, output.expected, data.values)
            with defer_signals():
                progress, state.progress = state.progress, EpochProgress()
                state.history.append(
                    {
                        "epoch": epoch + 1,
                        "lr": float(state.schedule.get_last_lr()[-1]),
                        "train_loss": train_loss,
                        **metrics,
                        "images_per_second": round(progress.images / (progress.seconds + trained - started), 1),
                        "seconds": round(progress.seconds + time.perf_counter() - started, 1),
                    }
                )
                if accelerator.is_main_process:
                    is_best = output is not None and settings.best_epoch(state.history) == epoch
                    callbacks.after_epoch(state, output, is_best)
                started = time.perf_counter()
    except StopSignal as stop:  # also between two epochs
        if accelerator.num_processes == 1:
            state.progress.pause(time.perf_counter() - started)
            stop.saved = callbacks.on_stop(state)
        else:  # they receive the signal at different steps; the last whole epoch is common to all
            stop.saved = "start the same command with --resume to go on after the last whole epoch"
        raise


def _train_epoch(
    state: TrainState, data: TrainingData, loss: nn.Module, settings: FitSettings, accelerator: Accelerator
) -> float:
    """Train the remaining batches of an epoch; return the mean loss per image of the whole epoch."""
    state.head.train()
    progress, sampler, epoch = state.progress, data.sampler, data.sampler.epoch
    progress.restore_generators()
    assert isinstance(data.train.batch_sampler, ProcessBatches)
    batch_size = data.train.batch_sampler.batch_size
    sampler.skip = progress.steps * batch_size
    title = f"epoch {epoch + 1}/{settings.epochs}"
    hidden = None if accelerator.is_main_process else True  # None: shown on a terminal
    bar = tqdm(data.train, title, initial=progress.steps, leave=False, disable=hidden, unit="batch")
    with bar:
        for batch in bar:
            use_thread_share()
            with defer_signals():
                pixels = batch.pixels[0].to(accelerator.device, non_blocking=True)
                targets = batch.target.to(accelerator.device, non_blocking=True)
                if data.mixing is not None:
                    share = progress.steps * accelerator.num_processes + accelerator.process_index
                    pixels, targets = data.mixing(pixels, targets, (settings.seed, epoch, share))
                value = _step(state, loss, pixels, targets, settings.clip_norm, accelerator)
                if not np.isfinite(value):
                    raise _not_finite(epoch, f"the loss is {value}")
                progress.add_step(value, min(batch_size, len(sampler) - progress.images))
            bar.set_postfix(loss=f"{progress.mean_loss:.4f}")
    return progress.mean_loss


def _step(
    state: TrainState,
    loss: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    clip_norm: float | None,
    accelerator: Accelerator,
) -> float:
    """Take one step of optimiser, schedule and average, unless loss or gradients are not finite; return the loss."""
    with accelerator.autocast():
        logits = state.head(pixels)
    # Outside: autocast would compute products in a loss in half precision, with the error of an age.
    value = loss(logits.float(), targets)
    if torch.isfinite(value):
        accelerator.backward(value)
        if clip_norm is not None:
            accelerator.clip_grad_norm_(state.head.parameters(), clip_norm)
        scaler = accelerator.scaler
        scale = None if scaler is None else scaler.get_scale()
        state.optimiser.step()
        state.optimiser.zero_grad()
        # fp16's scaler lowers its scale where gradients overflowed, which skips the step; accelerate's own
        # `step_was_skipped` is not set by fused optimisers.
        if scale is None or scaler.get_scale() >= scale:
            state.schedule.step()
            if state.average is not None:
                state.average.update_parameters(state.modules["head"])
    return float(value.item())


def _validate(head: nn.Module, data: TrainingData, accelerator: Accelerator) -> ValidationOutput:
    """Predict the whole validation set, gathered from all processes."""
    if accelerator.num_processes > 1:  # each process has its own batch statistics between two steps
        for buffer in head.buffers():
            buffer.copy_(broadcast(buffer))

    def load_pixels() -> Iterator[Tensor]:
        for batch in data.valid:
            use_thread_share()
            yield batch.pixels[0].to(accelerator.device, non_blocking=True)

    output = predict(head, data.target, load_pixels())
    if accelerator.num_processes > 1:
        assert data.valid.batch_sampler is not None
        rows = [row for batch in data.valid.batch_sampler for _, row, _ in batch]
        parts = gather_object([(rows, output.probabilities, output.expected)])
        order = np.argsort(np.concatenate([np.asarray(part[0], dtype=np.int64) for part in parts]))
        if sorted(row for part in parts for row in part[0]) != list(range(len(data.labels))):
            raise RuntimeError("validation rows were shared out twice or not at all")
        output = ValidationOutput(
            np.concatenate([part[1] for part in parts])[order],
            None if output.expected is None else np.concatenate([part[2] for part in parts])[order],
        )
    if not np.isfinite(output.probabilities).all():
        raise _not_finite(data.sampler.epoch, "its predictions are not numbers")
    return output


def predict(head: nn.Module, target: Target, batches: Iterable[Tensor]) -> ValidationOutput:
    """Predict batches of pixels [B, 3, H, W] in eval mode, one plain view each; then restore the head's mode."""
    # A process may have no batch.
    probabilities = [np.empty((0, len(target.classes)), dtype=np.float32)]
    expected = [np.empty(0, dtype=np.float32)]
    was_training = head.training
    head.eval()
    try:
        with torch.inference_mode():
            for pixels in batches:
                logits = head(pixels)
                probabilities.append(target.probabilities(logits).cpu().numpy())
                if target.numbers is not None:
                    expected.append(target.expectation(logits).cpu().numpy())
    finally:
        head.train(was_training)
    numbers = None if target.numbers is None else np.concatenate(expected)
    return ValidationOutput(np.concatenate(probabilities), numbers)


def _not_finite(epoch: int, found: str) -> InputError:
    advice = "lower optimiser.lr, set training.clip_norm or training.precision=fp32"
    return InputError(f"epoch {epoch + 1}: {found}, expected finite numbers; {advice}")
