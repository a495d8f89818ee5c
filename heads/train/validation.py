"""What a head makes of images it was not trained on, and the compute_metrics that choose the best epoch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import accuracy_score
from torch import nn

from data.dataset import Sample
from heads.objective.metrics import macro_f1
from heads.objective.targets import Target


@dataclass(frozen=True)
class Predictions:
    """A head's answers, in the loader's order.

    Attributes:
        probabilities: [N, C], rows sum to 1.
        expected: the predicted number [N] where the target is a distribution, else None.
    """

    probabilities: npt.NDArray[np.float32]
    expected: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Labels:
    """The validation labels: class indices [N], and numbers [N] where the target is a distribution."""

    indices: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64] | None = None


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch to eval mode without gradients, and back to the mode it was in."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(was_training)


def predict(head: nn.Module, target: Target, batches: Iterable[Sample]) -> Predictions:
    """Run `head` over batches of pixels [B, 3, H, W], one plain view each."""
    # Of no batch, too: a process may be dealt none.
    probabilities = [np.empty((0, len(target.classes)), dtype=np.float32)]
    expected = [np.empty(0, dtype=np.float32)]
    with eval_mode(head):
        for batch in batches:
            logits = head(batch.pixels[0])
            probabilities.append(target.probabilities(logits).cpu().numpy())
            if target.numbers is not None:
                expected.append(target.expectation(logits).cpu().numpy())
    return Predictions(
        np.concatenate(probabilities), None if target.numbers is None else np.concatenate(expected)
    )


def compute_metrics(
    predictions: Predictions,
    indices: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64] | None,
) -> dict[str, float]:
    """Macro F1 over all classes and accuracy; with `values`, the mean absolute error in the label's unit.

    Args:
        predictions: of N images.
        indices: true class indices [N].
        values: true numbers [N], or None.
    """
    answers = predictions.probabilities.argmax(axis=1)
    result = {
        "macro_f1": macro_f1(indices, answers, predictions.probabilities.shape[1]),
        "accuracy": float(accuracy_score(indices, answers)),
    }
    if values is not None and predictions.expected is not None:
        result["mae"] = float(np.abs(predictions.expected - values).mean())
    return result
