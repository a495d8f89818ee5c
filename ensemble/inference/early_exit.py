"""Further views only for images whose answer the first one leaves open: fewer passes, the same answers.

A task's answer to an image is settled once its two largest probabilities in the identity view lie a margin
apart. The others are gathered into batches of their own, across the batches in which they came.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ensemble.inference.predictor import Predictor, Result, Task, TaskOutput, mean_number
from ensemble.inference.views import MERGES, ViewCache

ALL_VIEWS = 1.0  # the margin that settles nothing: rounding can make a head as sure as 1


def needs_all_views(identity: npt.NDArray[np.floating], margin: float) -> npt.NDArray[np.bool_]:
    """Which images [N] need further views, by their probabilities [N, C] in the identity view.

    Those whose two largest lie less than `margin` (0..1) apart: at 0 none of them, at 1 all.

    >>> needs_all_views(np.array([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]]), 0.5).tolist()
    [False, True, False]
    """
    second, first = np.partition(identity.astype(np.float64), -2, axis=1)[:, -2:].T
    return np.asarray((first - second < margin) | (margin >= ALL_VIEWS))


def count_views(identity: npt.NDArray[np.floating], margin: float, views: int) -> npt.NDArray[np.uint8]:
    """In how many of a task's views each image [N] was shown: one, or all."""
    return np.where(needs_all_views(identity, margin), views, 1).astype(np.uint8)


def adaptive_views(
    predictor: Predictor,
    batches: Iterable[Sequence[Tensor]],
    margins: Mapping[str, float],
    batch_size: int,
    window: int,
) -> Iterator[Result]:
    """What `predictor` makes of each batch, in order, with further views where an answer is not settled.

    For a settled image what is merged is its identity view alone. Images that wait for further views
    do so until `batch_size` of them have come, or until `window` ends; so what a window's images are
    computed with, and each bit of what comes out, does not depend on any other window.

    Args:
        predictor: of the tasks.
        batches: uint8 pixels [B, 3, H, W] for each of the predictor's pipelines; all but the last of
            `batch_size`.
        margins: by task, see `needs_all_views`.
        batch_size: images at once, in further views as in the first.
        window: images, a multiple of `batch_size`; at most so many results are held back.
    """
    queues = [_Queue(task, name, batch_size) for name, task in predictor.tasks.items() if len(task.views) > 1]
    waiting: deque[_Waiting] = deque()
    rows = 0
    for batch in batches:
        shown = predictor.shown(batch)
        new = _Waiting({name: _first_view(task, shown[name]) for name, task in predictor.tasks.items()})
        waiting.append(new)
        for queue in queues:
            queue.add(new, shown[queue.name].pixels, margins[queue.name])
        rows += len(batch[0])
        for queue in queues:
            queue.work(to_the_end=rows % window == 0)
        while waiting and not waiting[0].missing:
            yield waiting.popleft().result
    for queue in queues:
        queue.work(to_the_end=True)
    for done in waiting:
        yield done.result


@dataclass
class _Waiting:
    """A batch's results, and how many further views of its images are still missing."""

    result: Result
    missing: int = 0


class _Queue:
    """Images that wait for the further views of one task."""

    def __init__(self, task: Task, name: str, batch_size: int) -> None:
        self.task, self.name, self.batch_size = task, name, batch_size
        self._further = list(task.views)[1:]
        self._rows: deque[tuple[_Waiting, int, Tensor]] = deque()

    def add(self, batch: _Waiting, pixels: Tensor, margin: float) -> None:
        """Take those of a batch, uint8 [B, 3, H, W], whose answers are not settled."""
        places = np.flatnonzero(needs_all_views(batch.result[self.name].identity, margin)).tolist()
        batch.missing += len(places)
        # Copied, so that an image that waits does not hold its whole batch in memory.
        self._rows.extend((batch, place, pixels[place].clone()) for place in places)

    def work(self, to_the_end: bool) -> None:
        """Show what waits in the further views, in full batches; the rest too where that is asked for."""
        while len(self._rows) >= self.batch_size or (to_the_end and self._rows):
            self._show([self._rows.popleft() for _ in range(min(self.batch_size, len(self._rows)))])

    def _show(self, rows: Sequence[tuple[_Waiting, int, Tensor]]) -> None:
        waiting = [(batch, batch.result[self.name], place) for batch, place, _ in rows]
        with torch.inference_mode():
            logits = self.task.view_logits(
                ViewCache(torch.stack([pixels for *_, pixels in rows])), self._further
            )
            first = np.stack([said.identity[place] for _, said, place in waiting])
            merged = MERGES[self.task.merge](_after(first, self.task.probabilities(logits))).cpu().numpy()
            numbers = self.task.numbers(logits)
            if numbers is not None:
                first = np.stack([said.number[place] for _, said, place in waiting if said.number is not None])
                numbers = _after(first, numbers)
        number = mean_number(numbers)
        for row, (batch, said, place) in enumerate(waiting):
            said.merged[place] = merged[row]
            if said.number is not None and number is not None:
                said.number[place] = number[row]
            batch.missing -= 1


def _after(first: npt.NDArray[np.float32], further: Tensor) -> Tensor:
    """The first view [N, ...] and then the further ones [V - 1, N, ...], as all [V, N, ...]."""
    return torch.cat([torch.from_numpy(first).to(further)[None], further])


def _first_view(task: Task, shown: ViewCache) -> TaskOutput:
    """What the identity view alone says."""
    with torch.inference_mode():
        logits = task.view_logits(shown, ["identity"])
        identity, numbers = task.probabilities(logits)[0].cpu().numpy(), task.numbers(logits)
    return TaskOutput(identity.copy(), identity, mean_number(numbers))
