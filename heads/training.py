"""Fit one head: the loop, top to bottom; what a run keeps and shows is its caller's, told after each epoch."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.errors import InputError
from heads.mixing import Mixing
from heads.sampling import BalancedSampler
from heads.targets import Target
from heads.validation import Predictions, figures, predict

Record = dict[str, float]


@dataclass
class Learner:
    """What changes while a head is trained; all of it is saved to go on exactly."""

    head: nn.Module
    optimiser: Optimizer
    schedule: LRScheduler
    average: AveragedModel | None = None
    history: list[Record] = field(default_factory=list)
    steps_per_epoch: int = 0

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules with state, by name."""
        return {"head": self.head} | ({} if self.average is None else {"average": self.average})

    @property
    def judged(self) -> nn.Module:
        """What is validated and kept: the average of weights where there is one."""
        return self.head if self.average is None else self.average.module


@dataclass(frozen=True)
class Plan:
    """How long, how careful, and by which figure the best epoch is chosen."""

    epochs: int
    select_by: str = "macro_f1"
    patience: int | None = None
    clip_norm: float | None = None
    seed: int = 0

    def score(self, record: Record) -> float:
        """The figure to be raised; an error counts downwards."""
        return -record["mae"] if self.select_by == "mae" else record[self.select_by]

    def best(self, history: list[Record]) -> int:
        """Index of the best epoch so far, the earliest among equals."""
        return int(np.argmax([self.score(record) for record in history]))


@dataclass(frozen=True)
class Truth:
    """The validation labels: class indices [N], and numbers [N] where the target is a distribution."""

    indices: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64] | None = None


AfterEpoch = Callable[[Learner, Predictions, bool], None]


def averaged(head: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch statistics (Polyak & Juditsky 1992)."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(head, multi_avg_fn=average, use_buffers=True)


def fit(
    learner: Learner,
    target: Target,
    loss: nn.Module,
    train: DataLoader[Any],
    validation: DataLoader[Any],
    sampler: BalancedSampler,
    truth: Truth,
    plan: Plan,
    accelerator: Accelerator,
    after_epoch: AfterEpoch,
    mixing: Mixing | None = None,
) -> None:
    """Train `learner` until its plan ends, going on from the epochs in its history.

    Args:
        learner: changed in place; its parts are prepared by `accelerator`, as are the loaders.
        loss: (logits, targets) -> scalar.
        sampler: the one that `train` draws from; the loop tells it the epoch.
        truth: labels of `validation`, in its order.
        after_epoch: called with the learner, the validation predictions and whether they are the best so far.
        mixing: of each training batch, or None.

    Raises:
        InputError: the loss is no longer a number.
    """
    for epoch in range(len(learner.history), plan.epochs):
        if _out_of_patience(learner.history, plan):
            break
        started = time.perf_counter()
        # Dropout draws from here on, the same whether the run was interrupted before or not.
        torch.manual_seed(plan.seed * 100_003 + epoch)
        sampler.epoch = epoch
        train_loss = _train_epoch(learner, loss, train, plan, accelerator, epoch, mixing)
        trained = time.perf_counter()
        predictions = predict(learner.judged, target, validation)
        if not np.isfinite(predictions.probabilities).all():
            raise _diverged(epoch, "its predictions are not numbers")
        learner.history.append(
            {
                "epoch": epoch + 1,
                "lr": float(learner.schedule.get_last_lr()[-1]),
                "train_loss": train_loss,
                **figures(predictions, truth.indices, truth.numbers),
                "images_per_second": round(len(sampler) / (trained - started), 1),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
        after_epoch(learner, predictions, plan.best(learner.history) == epoch)


def _train_epoch(
    learner: Learner,
    loss: nn.Module,
    train: DataLoader[Any],
    plan: Plan,
    accelerator: Accelerator,
    epoch: int,
    mixing: Mixing | None,
) -> float:
    """One pass over `train`; returns the mean loss over photographs."""
    learner.head.train()
    total, seen = 0.0, 0
    bar = tqdm(train, desc=f"epoch {epoch + 1}/{plan.epochs}", leave=False, disable=None, unit="batch")
    for step, (pixels, targets) in enumerate(bar):
        if mixing is not None:
            pixels, targets = mixing(pixels, targets, (plan.seed, epoch, step))
        with accelerator.autocast():
            value = loss(learner.head(pixels).float(), targets)
        if not torch.isfinite(value):
            raise _diverged(epoch, f"the loss is {value.item()}")
        accelerator.backward(value)
        if plan.clip_norm is not None:
            accelerator.clip_grad_norm_(learner.head.parameters(), plan.clip_norm)
        learner.optimiser.step()
        learner.schedule.step()
        learner.optimiser.zero_grad()
        if learner.average is not None:
            learner.average.update_parameters(learner.head)
        total += value.item() * len(pixels)
        seen += len(pixels)
        bar.set_postfix(loss=f"{total / seen:.4f}")
    return total / seen


def _diverged(epoch: int, found: str) -> InputError:
    advice = "lower optimiser.lr, set training.clip_norm or training.precision=fp32"
    return InputError(f"epoch {epoch + 1}: {found}, expected finite numbers; {advice}")


def _out_of_patience(history: list[Record], plan: Plan) -> bool:
    if plan.patience is None or not history:
        return False
    return len(history) - 1 - plan.best(history) >= plan.patience
