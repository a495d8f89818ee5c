"""Heads and images to probabilities: each image decoded once, shared by every head and view."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.images.decode import decode
from data.runtime.errors import InputError
from data.runtime.signals import init_worker
from data.transforms.pipeline import Pipeline, least_size
from ensemble.backends.engines import Backend, torch_backend
from ensemble.inference.views import MERGES, View, ViewCache, make_views
from heads.build import TrainedHead
from heads.objective.targets import Target

Probabilities = npt.NDArray[np.float32]
Read = Callable[[Path], npt.NDArray[np.uint8]]
BLACK = np.zeros((256, 256, 3), dtype=np.uint8)


class TaskOutput(NamedTuple):
    """What a task's heads say of a batch of B images.

    Attributes:
        merged: probabilities [B, C], all views merged; rows sum to 1.
        identity: those of the identity view alone.
        number: where the heads predict a number, such as age in years, the mean of its distribution over folds
            and views, [B] in the label's unit; else None.
    """

    merged: Probabilities
    identity: Probabilities
    number: npt.NDArray[np.float32] | None


Result = dict[str, TaskOutput]  # by task


def concat_outputs(batches: Sequence[TaskOutput]) -> TaskOutput:
    """What a task's heads say of several batches, one after the other."""
    numbers = [said.number for said in batches if said.number is not None]
    return TaskOutput(
        np.concatenate([said.merged for said in batches]),
        np.concatenate([said.identity for said in batches]),
        np.concatenate(numbers) if numbers else None,
    )


@dataclass(frozen=True)
class Task:
    """One task's heads (several where folds are averaged), its views and how they are merged."""

    heads: Sequence[TrainedHead]
    views: Mapping[str, View]
    merge: str

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.heads[0].config.label.classes

    @property
    def pixels(self) -> str:
        """The evaluation pipeline as text: tasks with the same text share their pixels."""
        return json.dumps(self.heads[0].config.pixels.evaluate)

    @property
    def files(self) -> list[Path]:
        """The checkpoints of the heads, in their order."""
        return [head.file for head in self.heads]

    @property
    def target(self) -> Target:
        """What the heads' logits mean."""
        return self.heads[0].target

    def view_logits(self, shown: ViewCache, names: Iterable[str] | None = None) -> Tensor:
        """Logits of a batch in each of the views named (in all), of each fold's head, [V, F, N, outputs]."""
        seen = [shown(name, self.views[name]) for name in (self.views if names is None else names)]
        return torch.stack([torch.stack([trained.head(each) for trained in self.heads]) for each in seen])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities [V, N, C] of such logits [V, F, N, outputs], averaged over folds."""
        rows = self.target.probabilities(logits.flatten(0, 2))
        return rows.view(*logits.shape[:3], -1).mean(dim=1)

    def numbers(self, logits: Tensor) -> Tensor | None:
        """Predicted numbers [V, N] of such logits, averaged over folds; None where classes are predicted."""
        if self.target.numbers is None:
            return None
        return self.target.expected(logits.flatten(0, 2)).view(logits.shape[:3]).mean(dim=1)


def build_task(heads: Sequence[TrainedHead]) -> Task:
    """A task from its heads; all its views are those of the first head's config."""
    config = heads[0].config
    return Task(heads, make_views(config.views.steps), config.views.merge)


def tasks_with_numbers(tasks: Mapping[str, Task]) -> list[str]:
    """The tasks whose heads predict a number."""
    return [name for name, task in tasks.items() if task.target.numbers is not None]


class Predictor:
    """Trained heads on one device: images to probabilities, the same wherever it runs.

    What a machine does for itself (`predict_tasks`) and what many do together (`ensemble.cluster.actors`) is this.

    Attributes:
        tasks: by name, with what the engine made of their heads.
        pipelines: one for each different `pixels.evaluate` among them; tasks with equal ones share pixels.
    """

    def __init__(
        self, tasks: Mapping[str, Task], device: torch.device, engine: Backend = torch_backend
    ) -> None:
        self.tasks = {name: _move_to_backend(engine, task, device) for name, task in tasks.items()}
        self.device = device
        self._shared = list(dict.fromkeys(task.pixels for task in tasks.values()))
        self.pipelines = [Pipeline(json.loads(pixels)) for pixels in self._shared]

    def __call__(self, batch: Sequence[Tensor]) -> Result:
        """What every task's heads say of a batch: uint8 pixels [B, 3, H, W] for each of `pipelines`."""
        shown = self.shown(batch)
        result = {}
        for name, task in self.tasks.items():
            with torch.inference_mode():
                logits = task.view_logits(shown[name])
                views, numbers = task.probabilities(logits), task.numbers(logits)
            merged = MERGES[task.merge](views)
            result[name] = TaskOutput(merged.cpu().numpy(), views[0].cpu().numpy(), mean_number(numbers))
        return result

    def shown(self, batch: Sequence[Tensor]) -> dict[str, ViewCache]:
        """What each task sees of such a batch, on the device; tasks of one pipeline share it and its views."""
        shown = {
            pixels: ViewCache(part.to(self.device, non_blocking=True))
            for pixels, part in zip(self._shared, batch, strict=True)
        }
        return {name: shown[task.pixels] for name, task in self.tasks.items()}


def mean_number(numbers: Tensor | None) -> npt.NDArray[np.float32] | None:
    """The mean over views [N] of predicted numbers [V, N], if any."""
    return None if numbers is None else numbers.mean(dim=0).cpu().numpy()


def all_views(predictor: Predictor, batches: Iterable[Sequence[Tensor]]) -> Iterator[Result]:
    """What `predictor` makes of each batch, in all views."""
    yield from map(predictor, batches)


Answer = Callable[[Predictor, Iterable[Sequence[Tensor]]], Iterator[Result]]


def _move_to_backend(engine: Backend, task: Task, device: torch.device) -> Task:
    return replace(task, heads=[replace(head, head=engine(head).to(device)) for head in task.heads])


def apply_pipelines(
    pipelines: Sequence[Pipeline], image: npt.NDArray[np.uint8], row: int
) -> tuple[Tensor, ...]:
    """A decoded image [H, W, 3], the listing's `row`-th, as each pipeline shows it: uint8 [3, H, W]."""
    seen = [pipeline(image, (0, 0, row)) for pipeline in pipelines]
    return tuple(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) for pixels in seen)


class DecodedImages(Dataset[tuple[Any, ...]]):
    """Images decoded once, as uint8 pixels [3, H, W] for each of several pipelines, and what is wrong.

    Args:
        paths: of the images.
        pipelines: that each of them goes through.
        skip_bad: gives a black image for an image that cannot be decoded, with the reason as the last
            value (empty otherwise), instead of raising an InputError.
        read: gives an image's pixels; unless told otherwise its file is decoded, a JPEG at the smallest
            scale that still covers what the pipelines show.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        pipelines: Sequence[Pipeline],
        skip_bad: bool = False,
        read: Read | None = None,
    ) -> None:
        self.paths = paths
        self.pipelines = list(pipelines)
        self.read = partial(decode, least=least_size(self.pipelines)) if read is None else read
        self.skip_bad = skip_bad

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        reason = ""
        try:
            image = self.read(self.paths[row])
        except InputError as error:
            if not self.skip_bad:
                raise
            reason, image = str(error), BLACK
        return *apply_pipelines(self.pipelines, image, row), reason


def predict_tasks(
    tasks: Mapping[str, Task],
    paths: Sequence[Path],
    device: torch.device,
    batch_size: int = 64,
    workers: int = 0,
    unseen: list[tuple[int, str]] | None = None,
    read: Read | None = None,
    engine: Backend = torch_backend,
    answer: Answer = all_views,
) -> Iterator[Result]:
    """Yield for each batch of `paths`, in order, what `answer` makes of it.

    Args:
        tasks: by name.
        paths: of the images.
        device: that the heads are moved to.
        batch_size: images at once.
        workers: decoding processes, which keep ahead of the heads.
        unseen: gets (row, reason) of each image that cannot be decoded, before its batch is yielded, and
            all its classes are equally likely, its number is NaN; without it such an image is an error.
        read: as that of `DecodedImages`.
        engine: computes the heads.
        answer: from the heads and batches of pixels to their probabilities, batch for batch, in order; it may
            take batches ahead of those that it yields.

    Raises:
        InputError: an image cannot be decoded.
    """
    predictor = Predictor(tasks, device, engine)
    images = DecodedImages(paths, predictor.pipelines, unseen is not None, read)
    loader = DataLoader(
        images,
        batch_size,
        num_workers=workers,
        worker_init_fn=init_worker,
        pin_memory=device.type == "cuda",
    )
    told: deque[Sequence[str]] = deque()  # the reasons of batches that `answer` holds back

    def pixels() -> Iterator[Sequence[Tensor]]:
        for *batch, reasons in loader:
            told.append(reasons)
            yield batch

    for number, result in enumerate(answer(predictor, pixels())):
        bad = {place: reason for place, reason in enumerate(told.popleft()) if reason}
        if unseen is not None:
            unseen += [(number * batch_size + place, reason) for place, reason in bad.items()]
        for name, said in result.items():
            for probabilities in (said.merged, said.identity):
                probabilities[list(bad)] = 1 / len(tasks[name].classes)
            if said.number is not None:
                said.number[list(bad)] = np.nan
        yield result
