"""Fit one head: the loop, top to bottom; what a run keeps and shows is its caller's, told after each epoch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.runtime.errors import InputError
from data.runtime.signals import Stopped, defer_signals
from heads.objective.targets import Target
from heads.train.distributed import gather_predictions, share_buffers, unwrap
from heads.train.mixing import Mixing
from heads.train.precision import without_autocast
from heads.train.progress import Progress
from heads.train.sampler import BalancedSampler
from heads.train.settings import FitSettings, Record
from heads.train.state import TrainState
from heads.train.validation import Labels, Predictions, compute_metrics, predict

Resize = Callable[[Tensor, int], Tensor]
AfterEpoch = Callable[[TrainState, Predictions | None, bool], None]
WhenStopped = Callable[[TrainState], str]


@dataclass(frozen=True)
class TrainingData:
    """What a head learns from and is judged on.

    Attributes:
        target: what its logits mean.
        train, validation: batches of pixels [B, 3, H, W] and targets, as the processes share them.
        sampler: the one that `train` draws from; the loop tells it the epoch.
        truth: labels of `validation`, in its order.
        mixing: of each training batch, or None.
        resizing: of each training batch in an epoch (`heads.train.resizing`), after mixing, or None.
    """

    target: Target
    train: DataLoader[Any]
    validation: DataLoader[Any]
    sampler: BalancedSampler
    truth: Labels
    mixing: Mixing | None = None
    resizing: Resize | None = None


def fit(
    learner: TrainState,
    material: TrainingData,
    loss: nn.Module,
    plan: FitSettings,
    accelerator: Accelerator,
    after_epoch: AfterEpoch,
    when_stopped: WhenStopped | None = None,
) -> None:
    """Train `learner` until its plan ends, going on from its history of epochs and its progress within one.

    The head computes in the accelerator's precision in its steps unwrap: losses and validation are in single.

    Args:
        learner: changed in place; its parts are prepared by `accelerator`, as are the loaders.
        material: stays as it is, but for the epoch of its sampler.
        loss: (logits, targets) -> scalar; of the whole batch where processes share it.
        after_epoch: called with the learner, the validation predictions (None: this epoch has none) and whether
            they are the best so far; by one process where there are several.
        when_stopped: called where a signal ends the run, between two steps; returns what it kept, for the user.

    Raises:
        InputError: the loss is no longer a number.
        Stopped: a signal asked for the end.
    """
    without_autocast(learner.head)
    started = time.perf_counter()
    try:
        for epoch in range(len(learner.history), plan.epochs):
            if plan.is_out_of_patience(learner.history):
                break
            # Dropout draws from here on, the same whether the run was interrupted before or not.
            # Other images in another process: their dropout must not be the same.
            torch.manual_seed(plan.seed * 100_003 + epoch + accelerator.process_index * 1_000_000_007)
            material.sampler.epoch = epoch
            train_loss = _train_epoch(learner, material, loss, plan, accelerator)
            trained = time.perf_counter()
            predictions = _validate(learner, material, accelerator, epoch) if plan.validates(epoch) else None
            with defer_signals():
                before, learner.progress = learner.progress.seconds, Progress()
                learner.history.append(
                    {
                        "epoch": epoch + 1,
                        "lr": float(learner.schedule.get_last_lr()[-1]),
                        "train_loss": train_loss,
                        **_figures(predictions, material.truth),
                        "images_per_second": round(len(material.sampler) / (before + trained - started), 1),
                        "seconds": round(before + time.perf_counter() - started, 1),
                    }
                )
                if accelerator.is_main_process:
                    is_best = predictions is not None and plan.best(learner.history) == epoch
                    after_epoch(learner, predictions, is_best)
                started = time.perf_counter()
    except Stopped as stopped:  # anywhere, between two epochs too
        # Several processes hear of a signal at different steps: what they share is the last whole epoch.
        if when_stopped is not None and accelerator.num_processes == 1:
            learner.progress.note(time.perf_counter() - started)
            stopped.kept = when_stopped(learner)
        elif accelerator.num_processes > 1:
            stopped.kept = "start the same command with --resume to go on after the last whole epoch"
        raise


def _train_epoch(
    learner: TrainState, material: TrainingData, loss: nn.Module, plan: FitSettings, accelerator: Accelerator
) -> float:
    """What is left of one pass over the training batches; returns the mean loss over all images of it."""
    learner.head.train()
    train, sampler, mixing, resizing = material.train, material.sampler, material.mixing, material.resizing
    progress, epoch = learner.progress, sampler.epoch
    progress.restore()
    together = _rows_in_a_step(train)
    sampler.skip = progress.steps * together
    title = f"epoch {epoch + 1}/{plan.epochs}"
    total = len(train)
    hidden = None if accelerator.is_main_process else True  # None: where somebody looks at a terminal
    with tqdm(train, title, total, initial=progress.steps, leave=False, disable=hidden, unit="batch") as bar:
        for batch in bar:
            pixels, targets = batch.pixels[0], batch.target
            with defer_signals():
                if mixing is not None:
                    share = progress.steps * accelerator.num_processes + accelerator.process_index
                    pixels, targets = mixing(pixels, targets, (plan.seed, epoch, share))
                if resizing is not None:
                    pixels = resizing(pixels, epoch)
                value = _step(learner, loss, pixels, targets, plan, accelerator)
                if not np.isfinite(value):
                    raise _divergence_error(epoch, f"the loss is {value}")
                progress.count(value, min(together, len(sampler) - progress.images))
            bar.set_postfix(loss=f"{progress.loss:.4f}")
    return progress.loss


def _validate(learner: TrainState, material: TrainingData, accelerator: Accelerator, epoch: int) -> Predictions:
    """What the judged head makes of all validation images, those of other processes too."""
    share_buffers(learner.judged, accelerator)
    own = predict(learner.judged, material.target, material.validation)
    predictions = gather_predictions(own, material.validation, accelerator)
    if not np.isfinite(predictions.probabilities).all():
        raise _divergence_error(epoch, "its predictions are not numbers")
    return predictions


def _figures(predictions: Predictions | None, truth: Labels) -> Record:
    return {} if predictions is None else compute_metrics(predictions, truth.indices, truth.numbers)


def _rows_in_a_step(train: DataLoader[Any]) -> int:
    """Rows that a step draws in all processes; a loader that was not dealt knows its own batch size only."""
    return int(getattr(train, "total_batch_size", train.batch_size or 1))


def _step(
    learner: TrainState,
    loss: nn.Module,
    pixels: Tensor,
    targets: Tensor,
    plan: FitSettings,
    accelerator: Accelerator,
) -> float:
    """One step of the optimiser, unless the loss is no number; returns the loss."""
    with accelerator.autocast():
        logits = learner.head(pixels)
    # Outside: autocast would take a loss's products to half precision, and the error of an age with them.
    value = loss(logits.float(), targets)
    if torch.isfinite(value):
        accelerator.backward(value)
        if plan.clip_norm is not None:
            accelerator.clip_grad_norm_(learner.head.parameters(), plan.clip_norm)
        learner.optimiser.step()
        learner.schedule.step()
        learner.optimiser.zero_grad()
        if learner.average is not None:
            learner.average.update_parameters(unwrap(learner.head))
    return float(value.item())


def _divergence_error(epoch: int, found: str) -> InputError:
    advice = "lower optimiser.lr, set training.clip_norm or training.precision=fp32"
    return InputError(f"epoch {epoch + 1}: {found}, expected finite numbers; {advice}")
