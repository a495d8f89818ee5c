"""Early exit over test-time views: further views only for images whose first view leaves the class open.

A task is decided for an image once its two largest probabilities in the identity view differ by a threshold. The
other images are gathered into full batches, across the batches that they came in.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.dataset import Sample
from ensemble.files.predictions import Predictions, TaskOutput
from ensemble.inference.predictor import Predictor, Task, ViewCache

ALL_VIEWS = 1.0  # the threshold at which nothing exits: rounding can make a head as sure as 1


def needs_all_views(identity: npt.NDArray[np.floating], threshold: float) -> npt.NDArray[np.bool_]:
    """Return which images [N] need further views, by their probabilities [N, C] in the identity view.

    Those whose two largest differ by less than `threshold` (0..1): at 0 none of them, at 1 all.

    >>> needs_all_views(np.array([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]]), 0.5).tolist()
    [False, True, False]
    """
    return np.asarray((probability_gaps(identity) < threshold) | (threshold >= ALL_VIEWS))


def probability_gaps(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Differences [N] of the two largest of each image's probabilities [N, C]."""
    second, first = np.partition(probabilities.astype(np.float64), -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def predict_adaptive(
    predictor: Predictor,
    batches: Iterable[Sample],
    thresholds: Mapping[str, float],
    batch_size: int,
    window: int,
) -> Iterator[Predictions]:
    """Predict batches in order, with further views only where `needs_all_views`; yield once per window.

    An image that needs none keeps the probabilities of its identity view. Images wait for further views until
    `batch_size` of them have come or the window ends, so the results of a window, to the last bit, do not depend on
    any other window.

    Args:
        predictor: of the tasks.
        batches: of `batch_size` images, the last one may be smaller.
        thresholds: by task, see `needs_all_views`.
        batch_size: images at once, in further views as in the first.
        window: images, a multiple of `batch_size`; at most so many results are held back.
    """
    windows: dict[str, _TaskWindow] = {}
    errors: list[str] = []
    for batch in batches:
        if not errors:
            windows = {name: _TaskWindow(task, thresholds[name], batch_size) for name, task in predictor.tasks.items()}
        for name, images in predictor.to_device(batch).items():
            windows[name].add(images)
        errors += batch.error
        if len(errors) >= window:
            yield predictor.finish({name: each.finish() for name, each in windows.items()}, errors)
            errors = []
    if errors:
        yield predictor.finish({name: each.finish() for name, each in windows.items()}, errors)


class _TaskWindow:
    """One task's results in a window."""

    def __init__(self, task: Task, threshold: float, batch_size: int) -> None:
        self.task, self.threshold, self.batch_size = task, threshold, batch_size
        self.first: list[TaskOutput] = []  # of the identity view, by batch
        self.undecided: list[npt.NDArray[np.bool_]] = []  # which images need further views, by batch
        self.merged: list[TaskOutput] = []  # of all views, for those images, in order
        # Such images that wait for a full batch: pixels [W, 3, H, W] and, of their identity view, probabilities
        # [W, C] and, where the task predicts them, numbers [W].
        self.waiting: list[Tensor] = []

    @torch.inference_mode()
    def add(self, images: ViewCache) -> None:
        """Predict a batch in the identity view, and every full batch of waiting images in the further ones."""
        first = [each[0] for each in self._outputs(images, ["identity"])]
        identity = first[0].cpu().numpy()
        value = first[1].cpu().numpy() if self.task.predicts_number else None
        self.first.append(TaskOutput(identity, identity, value))
        self.undecided.append(needs_all_views(identity, self.threshold))
        if len(self.task.views) == 1:
            return
        rows = torch.from_numpy(np.flatnonzero(self.undecided[-1])).to(images.pixels.device)
        added = [each[rows] for each in (images.pixels, *first)]
        before = self.waiting or [each[:0] for each in added]
        self.waiting = [torch.cat(pair) for pair in zip(before, added, strict=True)]
        while len(self.waiting[0]) >= self.batch_size:
            self._predict_further()

    @torch.inference_mode()
    def finish(self) -> TaskOutput:
        """Join the results: all views merged where an image needs them, the identity view elsewhere."""
        if self.waiting and len(self.waiting[0]):
            self._predict_further()
        whole, undecided = TaskOutput.concat(self.first), np.concatenate(self.undecided)
        if self.merged:
            merged = TaskOutput.concat(self.merged)
            whole.probabilities[undecided] = merged.probabilities
            if whole.value is not None:
                whole.value[undecided] = merged.value
        return whole._replace(views=np.where(undecided, len(self.task.views), 1).astype(np.uint8))

    def _predict_further(self) -> None:
        """Predict the first batch of waiting images in the further views, and merge all views."""
        pixels, *first = (each[: self.batch_size] for each in self.waiting)
        self.waiting = [each[self.batch_size :] for each in self.waiting]
        further = self._outputs(ViewCache(pixels), list(self.task.views)[1:])
        views = (torch.cat([one[None], others]) for one, others in zip(first, further, strict=True))
        self.merged.append(self.task.merge_views(*views))

    def _outputs(self, images: ViewCache, views: Sequence[str]) -> list[Tensor]:
        """Probabilities [V, N, C] in some views and, where the task predicts them, numbers [V, N]."""
        logits = self.task.view_logits(images, views)
        numbers = self.task.numbers(logits)
        return [self.task.probabilities(logits), *([] if numbers is None else [numbers])]
