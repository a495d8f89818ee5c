"""State of a training: what changes in it, and how far the current epoch is."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from data.runtime.errors import InputError

Record = dict[str, float]  # an epoch's metrics by name
# Keys and types of `EpochProgress` in a checkpoint; "photographs" is version 0.1's key for `images`.
PROGRESS = {"steps": int, "loss_sum": float, "photographs": int, "seconds": float, "generators": dict}


@dataclass
class EpochProgress:
    """The completed part of an epoch.

    Attributes:
        steps: optimiser steps.
        loss_sum: sum of the losses of `images` images.
        seconds: time spent before the run was last interrupted.
        generators: states of PyTorch's random generators, which dropout uses, by device; empty until `pause`.
    """

    steps: int = 0
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    generators: dict[str, str] = field(default_factory=dict)

    def add_step(self, loss: float, images: int) -> None:
        """Count one step with its mean `loss` over `images` images."""
        self.steps += 1
        self.loss_sum += loss * images
        self.images += images

    @property
    def mean_loss(self) -> float:
        """Mean loss per image; requires at least one step."""
        return self.loss_sum / self.images

    def pause(self, seconds: float) -> None:
        """Store the states of the random generators and add `seconds`."""
        self.seconds += seconds
        self.generators = {"cpu": _to_text(torch.get_rng_state())}
        if torch.cuda.is_available():
            self.generators["cuda"] = _to_text(torch.cuda.get_rng_state())  # of the process's one device

    def restore_generators(self) -> None:
        """Restore the generators' states that `pause` stored, if there are any."""
        for device, state in self.generators.items():
            if device == "cpu":
                torch.set_rng_state(_from_text(state))
            elif torch.cuda.is_available() and device == "cuda":
                torch.cuda.set_rng_state(_from_text(state))

    def to_json(self) -> dict[str, Any]:
        """Return the attributes under the keys of `PROGRESS`."""
        return dict(zip(PROGRESS, vars(self).values(), strict=True))

    @staticmethod
    def from_json(value: Any) -> "EpochProgress":
        """Build from what `to_json` returned; raise `InputError` for anything else."""
        if not isinstance(value, dict) or {name: type(item) for name, item in value.items()} != PROGRESS:
            raise InputError(f"the progress of an unfinished run is {str(value)[:80]}, expected {', '.join(PROGRESS)}")
        return EpochProgress(*(value[name] for name in PROGRESS))


@dataclass
class TrainState:
    """Everything that changes during a training; all of it is saved, so that a run resumes exactly."""

    head: nn.Module
    optimiser: Optimizer
    schedule: LRScheduler
    average: AveragedModel | None = None
    steps_per_epoch: int = 0
    history: list[Record] = field(default_factory=list)
    progress: EpochProgress = field(default_factory=EpochProgress)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Modules with state, by name, without the wrapper of distributed training."""
        head: nn.Module = extract_model_from_parallel(self.head)
        return {"head": head} | ({} if self.average is None else {"average": self.average})

    @property
    def eval_head(self) -> nn.Module:
        """The head that is validated and saved: the moving average of the weights if there is one."""
        return self.modules["head"] if self.average is None else self.average.module


def _to_text(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_text(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytes.fromhex(text), dtype=np.uint8).copy())
