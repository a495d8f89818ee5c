"""Early exit over test-time views: further views only for images whose first view leaves the class open.

A task is decided for an image once its two largest probabilities in the identity view differ by a threshold. The
other images are gathered into full batches, across the batches that they came in.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

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
    threshold: float,
    batch_size: int,
    rows: int,
) -> Iterator[Predictions]:
    """Predict batches in order, with further views only where `needs_all_views`; yield once per window.

    An image that needs none keeps the probabilities of its identity view. Images wait for further views until
    `batch_size` of them have come or the window ends, so the results of a window, to the last bit, do not depend on
    any other window.

    Args:
        predictor: of the tasks.
        batches: of `batch_size` images, the last one may be smaller.
        threshold: of all tasks, see `needs_all_views`.
        batch_size: images at once, in further views as in the first.
        rows: of a window, a multiple of `batch_size`; at most so many results are held back.
    """
    windows: list[_Window] = []
    errors: list[str] = []
    for batch, logits in predictor.map_batches(lambda batch: (batch, predictor.identity_logits(batch)), batches):
        if not errors:
            windows = [_Window(group, threshold, batch_size) for group in predictor.groups]
        for window, pixels, identity in zip(windows, batch.pixels, logits, strict=True):
            window.add(pixels, identity)
        errors += batch.error
        if len(errors) >= rows:
            yield _finish(predictor, windows, errors)
            errors = []
    if errors:
        yield _finish(predictor, windows, errors)


def _finish(predictor: Predictor, windows: Iterable["_Window"], errors: list[str]) -> Predictions:
    outputs: dict[str, TaskOutput] = {}
    for window in windows:
        outputs |= window.finish()
    return predictor.finish({name: outputs[name] for name in predictor.tasks}, errors)


@dataclass(frozen=True)
class _Waiting:
    """Images that wait for further views: their rows [W], pixels [W, 3, H, W] and logits [F, W, outputs] by task."""

    rows: npt.NDArray[np.int64]
    pixels: Tensor
    logits: Mapping[str, Tensor]

    def join(self, other: "_Waiting") -> "_Waiting":
        logits = {name: torch.cat([each, other.logits[name]], dim=1) for name, each in self.logits.items()}
        return _Waiting(np.r_[self.rows, other.rows], torch.cat([self.pixels, other.pixels]), logits)

    def split(self, count: int) -> tuple["_Waiting", "_Waiting"]:
        first, rest = (
            _Waiting(self.rows[part], self.pixels[part], {name: each[:, part] for name, each in self.logits.items()})
            for part in (slice(count), slice(count, None))
        )
        return first, rest


class _Window:
    """The results of a group's tasks in a window.

    Images wait with those of which the same tasks are undecided, so that these share the layers of further views, too.
    """

    def __init__(self, group: HeadGroup, threshold: float, batch_size: int) -> None:
        self.group, self.threshold, self.batch_size = group, threshold, batch_size
        self.images = 0
        self.first: dict[str, list[TaskOutput]] = {name: [] for name in group.tasks}  # of the identity view, by batch
        self.undecided: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in group.tasks}
        self.waiting: dict[tuple[str, ...], _Waiting] = {}  # by tasks
        # Rows that needed further views, and their results of all views.
        self.merged: dict[str, list[tuple[npt.NDArray[np.int64], TaskOutput]]] = {name: [] for name in group.tasks}

    @torch.inference_mode()
    def add(self, pixels: Tensor, identity: Mapping[str, Tensor]) -> None:
        """Take a batch and its logits in the identity view; predict full batches that wait for further views."""
        for name, logits in identity.items():
            task = self.group.tasks[name]
            first, value = task.probabilities(logits)[0].cpu().numpy(), task.numbers(logits)
            self.first[name].append(TaskOutput(first, first, None if value is None else value[0].cpu().numpy()))
            self.undecided[name].append(needs_all_views(first, self.threshold))
        names = [name for name, task in self.group.tasks.items() if len(task.views) > 1]
        needed = np.stack([self.undecided[name][-1] for name in names], axis=1) if names else np.empty((0, 0), bool)
        for kind in np.unique(needed, axis=0):
            tasks = tuple(name for name, need in zip(names, kind, strict=True) if need)
            if tasks:
                rows = np.flatnonzero((needed == kind).all(axis=1))
                logits_of_rows = {name: identity[name][0][:, rows] for name in tasks}
                added = _Waiting(rows + self.images, pixels[rows], logits_of_rows)
                self.waiting[tasks] = self.waiting[tasks].join(added) if tasks in self.waiting else added
                while len(self.waiting[tasks].rows) >= self.batch_size:
                    self._predict_further(tasks)
        self.images += len(pixels)

    @torch.inference_mode()
    def finish(self) -> dict[str, TaskOutput]:
        """Join each task's results: all views merged where an image needs them, the identity view elsewhere."""
        for tasks, images in self.waiting.items():
            if len(images.rows):
                self._predict_further(tasks)
        outputs = {}
        for name, task in self.group.tasks.items():
            whole, undecided = TaskOutput.concat(self.first[name]), np.concatenate(self.undecided[name])
            for rows, merged in self.merged[name]:
                whole.probabilities[rows] = merged.probabilities
                if whole.value is not None:
                    whole.value[rows] = merged.value
            outputs[name] = whole._replace(views=np.where(undecided, len(task.views), 1).astype(np.uint8))
        return outputs

    def _predict_further(self, tasks: tuple[str, ...]) -> None:
        """Predict a batch of images that wait in the tasks' further views, and merge all views."""
        images, self.waiting[tasks] = self.waiting[tasks].split(self.batch_size)
        further = self.group.view_logits(images.pixels, {name: [*self.group.tasks[name].views][1:] for name in tasks})
        for name in tasks:
            task, logits = self.group.tasks[name], torch.cat([images.logits[name][None], further[name]])
            merged = task.merge_views(task.probabilities(logits), task.numbers(logits))
            self.merged[name].append((images.rows, merged))
