"""Early exit over test-time views: further views only for images whose first view leaves the class open.

A task is decided for an image once its two largest probabilities in the identity view differ by a threshold. The
other images are gathered into full batches, across the batches that they came in.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.dataset import Sample
from ensemble.files.predictions import Predictions, TaskOutput
from ensemble.inference.predictor import HeadGroup, Predictor

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
            windows = {
                name: _TaskWindow(group, name, thresholds[name], batch_size)
                for group in predictor.groups
                for name in group.tasks
            }
        for group, pixels in zip(predictor.groups, batch.pixels, strict=True):
            with torch.inference_mode():
                identity = group.view_logits(pixels, {name: ["identity"] for name in group.tasks})
                for name, logits in identity.items():
                    windows[name].add(pixels, logits)
        errors += batch.error
        if len(errors) >= window:
            yield predictor.finish({name: windows[name].finish() for name in predictor.tasks}, errors)
            errors = []
    if errors:
        yield predictor.finish({name: windows[name].finish() for name in predictor.tasks}, errors)


class _TaskWindow:
    """One task's results in a window."""

    def __init__(self, group: HeadGroup, name: str, threshold: float, batch_size: int) -> None:
        self.group, self.name, self.task = group, name, group.tasks[name]
        self.threshold, self.batch_size = threshold, batch_size
        self.first: list[TaskOutput] = []  # of the identity view, by batch
        self.undecided: list[npt.NDArray[np.bool_]] = []  # which images need further views, by batch
        self.merged: list[TaskOutput] = []  # of all views, for those images, in order
        # Such images that wait for a full batch: pixels [W, 3, H, W] and logits [F, W, outputs] of their identity view.
        self.waiting: tuple[Tensor, Tensor] | None = None

    def add(self, pixels: Tensor, logits: Tensor) -> None:
        """Take a batch and its logits [1, F, N, outputs] in the identity view; predict full batches that wait."""
        identity, value = self.task.probabilities(logits)[0], self.task.numbers(logits)
        first = identity.cpu().numpy()
        self.first.append(TaskOutput(first, first, None if value is None else value[0].cpu().numpy()))
        self.undecided.append(needs_all_views(first, self.threshold))
        if len(self.task.views) == 1:
            return
        rows = torch.from_numpy(np.flatnonzero(self.undecided[-1]))
        added = pixels[rows], logits[0][:, rows.to(logits.device)]
        before = self.waiting or (added[0][:0], added[1][:, :0])
        self.waiting = torch.cat([before[0], added[0]]), torch.cat([before[1], added[1]], dim=1)
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
        assert self.waiting
        (pixels, first), size = self.waiting, self.batch_size
        self.waiting = pixels[size:], first[:, size:]
        further = self.group.view_logits(pixels[:size], {self.name: [*self.task.views][1:]})[self.name]
        logits = torch.cat([first[None, :, :size], further])
        self.merged.append(self.task.merge_views(self.task.probabilities(logits), self.task.numbers(logits)))
