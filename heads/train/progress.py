"""How far the epoch under way has come: what a run needs, beside its weights, to go on in the middle of one."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.runtime.errors import InputError


@dataclass
class Progress:
    """The part of an epoch that is done.

    Attributes:
        steps: optimiser steps taken.
        loss_sum: of the images so far.
        images: seen so far.
        seconds: that they took, before the run was last interrupted.
        generators: states of PyTorch's generators (dropout draws from them), by device; empty until `note`.
    """

    steps: int = 0
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    generators: dict[str, str] = field(default_factory=dict)

    def count(self, loss: float, images: int) -> None:
        """Add one step with its mean `loss` over so many images."""
        self.steps += 1
        self.loss_sum += loss * images
        self.images += images

    @property
    def loss(self) -> float:
        """Mean loss over the images so far; there must be one."""
        return self.loss_sum / self.images

    def note(self, seconds: float) -> None:
        """Remember the generators as they are now, and that `seconds` more have passed."""
        self.seconds += seconds
        self.generators = {"cpu": _text(torch.get_rng_state())}
        if torch.cuda.is_available():
            self.generators["cuda"] = _text(torch.cuda.get_rng_state())  # of the one device that a process uses

    def restore(self) -> None:
        """Set the generators back to what `note` saw; nothing to do for an epoch that begins."""
        for device, state in self.generators.items():
            if device == "cpu":
                torch.set_rng_state(_tensor(state))
            elif torch.cuda.is_available() and device == "cuda":
                torch.cuda.set_rng_state(_tensor(state))

    @staticmethod
    def from_json(value: Any) -> "Progress":
        """What `vars` of one gave, out of a checkpoint's description; InputError if it is something else."""
        expected = {"steps": int, "loss_sum": float, "photographs": int, "seconds": float, "generators": dict}
        if not isinstance(value, dict) or {name: type(held) for name, held in value.items()} != expected:
            raise InputError(
                f"an unfinished run's progress is {str(value)[:80]}, expected {', '.join(expected)}"
            )
        return Progress(**value)


def _text(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _tensor(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytes.fromhex(text), dtype=np.uint8).copy())
