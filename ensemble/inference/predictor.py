"""Run trained heads over images; each image is decoded once and shared by every head and view.

Probabilities of views and folds are merged and not logits, whose scale differs from image to image.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path
from statistics import geometric_mean
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from data.dataset import ImageDataset, Sample, SequentialIndices, make_scaled_reader
from data.images.decode import Read
from data.loader import Loader
from data.transforms.pipeline import Pipeline
from data.transforms.views import View, make_views
from ensemble.backends.engines import BATCHES_AT_ONCE, DEFAULT, Backend, select_device
from ensemble.files.predictions import Predictions, TaskOutput
from heads.load import TrainedHead
from heads.objective.calibration import calibrate
from heads.objective.targets import Target

Result = TypeVar("Result")


def mean(probabilities: Tensor) -> Tensor:
    """Arithmetic mean over views: [V, N, C] -> [N, C]."""
    return probabilities.mean(dim=0)


def geometric(probabilities: Tensor) -> Tensor:
    """Geometric mean over views, normalised to rows that sum to 1: [V, N, C] -> [N, C]."""
    logs = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
    return logs.mean(dim=0).softmax(dim=1)


def vote(probabilities: Tensor) -> Tensor:
    """Share of views that predict each class: [V, N, C] -> [N, C]; a tie goes to the larger mean.

    The mean probability is added with a weight too small to outvote a view.
    """
    views, _, classes = probabilities.shape
    votes = F.one_hot(probabilities.argmax(dim=2), classes).to(probabilities.dtype).mean(dim=0)
    small = 1 / (2 * views + 2)
    return votes * (1 - small) + probabilities.mean(dim=0) * small


MERGES: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "geometric": geometric, "vote": vote}


@dataclass(frozen=True)
class Task:
    """One task's heads (several where folds are averaged), its views and how they are merged.

    `temperature` calibrates the merged probabilities (`heads.objective.calibration`); 1: they stay as they are.
    """

    heads: Sequence[TrainedHead]
    views: Mapping[str, View]
    merge: str
    temperature: float = 1.0

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.heads[0].config.label.classes

    @property
    def pixels(self) -> str:
        """The evaluation pipeline as text: tasks with the same text share their pixels."""
        return json.dumps(self.heads[0].config.pixels.evaluate)

    @property
    def checksums(self) -> list[str]:
        """SHA-256 of the heads' checkpoints."""
        return [head.checksum for head in self.heads]

    @property
    def target(self) -> Target:
        """What the heads' logits mean."""
        return self.heads[0].target

    @property
    def predicts_number(self) -> bool:
        """Whether the heads predict a number, such as age in years, beside the classes."""
        return self.target.numbers is not None

    def probabilities(self, logits: Tensor) -> Tensor:
        """Convert logits [V, F, N, outputs] to probabilities [V, N, C], averaged over folds."""
        rows = self.target.probabilities(logits.flatten(0, 2))
        return rows.view(*logits.shape[:3], -1).mean(dim=1)

    def numbers(self, logits: Tensor) -> Tensor | None:
        """Convert logits to expected numbers [V, N], averaged over folds; None for a task of classes."""
        if not self.predicts_number:
            return None
        return self.target.expectation(logits.flatten(0, 2)).view(logits.shape[:3]).mean(dim=1)

    def merge_views(self, probabilities: Tensor, numbers: Tensor | None = None) -> TaskOutput:
        """Merge probabilities [V, N, C] and numbers [V, N] of V views; the first one is the identity."""
        return TaskOutput(
            MERGES[self.merge](probabilities).cpu().numpy(),
            probabilities[0].cpu().numpy(),
            None if numbers is None else numbers.mean(dim=0).cpu().numpy(),
        )


def build_task(heads: Sequence[TrainedHead], calibrated: bool = False) -> Task:
    """Build a task from its heads, with the views of the first head's config.

    Its temperature is 1 or, if `calibrated`, the geometric mean of the heads' temperatures.
    """
    config, temperature = heads[0].config, geometric_mean([head.temperature for head in heads]) if calibrated else 1.0
    return Task(heads, make_views(config.views.steps), config.views.merge, temperature)


def choose_views(task: Task, views: str) -> Task:
    """Return a task with the views of its heads' config that `--views` names: plain, default (or adaptive) or all."""
    steps, further = task.heads[0].config.views.steps, task.heads[0].config.views.further
    chosen = {"plain": [], "all": [*steps, *further]}.get(views, steps)
    return replace(task, views=make_views(chosen))


class HeadGroup:
    """The heads of all tasks with one evaluation pipeline, computed together.

    Attributes:
        tasks: by name.
        module: computes their heads, one task after the other, see `ensemble.backends.engines.Backend`.
    """

    def __init__(self, tasks: Mapping[str, Task], backend: Backend, device: torch.device) -> None:
        self.tasks, self.device = tasks, device
        self.module = backend([head for task in tasks.values() for head in task.heads]).to(device)
        numbers = count()
        self.places = {name: [next(numbers) for _ in task.heads] for name, task in tasks.items()}

    def view_logits(self, pixels: Tensor, views: Mapping[str, Sequence[str]] | None = None) -> dict[str, Tensor]:
        """Compute logits [V, F, N, outputs] of some tasks in their named views; None: all tasks in all their views.

        Each view of the pixels, uint8 [N, 3, H, W], is computed once.
        """
        chosen = {name: [*task.views] for name, task in self.tasks.items()} if views is None else views
        identity = pixels.to(self.device, non_blocking=True).float().div_(255)
        found: dict[str, dict[str, Tensor]] = {name: {} for name in chosen}
        for view in dict.fromkeys(chain.from_iterable(chosen.values())):
            users = [name for name, names in chosen.items() if view in names]
            places = [place for name in users for place in self.places[name]]
            logits = iter(self.module(self.tasks[users[0]].views[view](identity), places))
            for name in users:
                found[name][view] = torch.stack([next(logits) for _ in self.places[name]])
        return {name: torch.stack([found[name][view] for view in names]) for name, names in chosen.items()}


class Predictor:
    """Trained heads on `device`, or on that of their backend.

    Attributes:
        tasks: by name.
        pipelines: one for each different `pixels.evaluate`.
    """

    def __init__(
        self, tasks: Mapping[str, Task], backend: Backend = DEFAULT, device: torch.device | None = None
    ) -> None:
        self.tasks, self.backend, self.device = tasks, backend, device or select_device(backend.engine)
        self.pipelines = [Pipeline(json.loads(each)) for each in self._pixels]
        self.batches_at_once = BATCHES_AT_ONCE.get(backend.engine, 1)

    @cached_property
    def groups(self) -> list[HeadGroup]:
        """The tasks of each of `pipelines`, which share pixels, views and equal layers; prepared when first used."""
        return [
            HeadGroup({n: task for n, task in self.tasks.items() if task.pixels == each}, self.backend, self.device)
            for each in self._pixels
        ]

    @property
    def _pixels(self) -> list[str]:
        return list(dict.fromkeys(task.pixels for task in self.tasks.values()))

    def __call__(self, batch: Sample) -> Predictions:
        """Predict a batch, uint8 [B, 3, H, W] for each of `pipelines`, in all views of every task."""
        outputs = {}
        with torch.inference_mode():
            for group, pixels in zip(self.groups, batch.pixels, strict=True):
                for name, logits in group.view_logits(pixels).items():
                    task = self.tasks[name]
                    outputs[name] = task.merge_views(task.probabilities(logits), task.numbers(logits))
        return self.finish({name: outputs[name] for name in self.tasks}, batch.error)

    def map_batches(self, function: Callable[[Sample], Result], batches: Iterable[Sample]) -> Iterator[Result]:
        """Yield the function of each batch, in order; in threads, where the engine computes batches side by side."""
        self.groups  # noqa: B018, prepared while workers decode the first batch
        remaining = iter(batches)
        if self.batches_at_once == 1:
            yield from map(function, remaining)
            return
        # The first batch alone: it compiles and is compared with PyTorch, and whatever else an engine does once.
        yield from map(function, islice(remaining, 1))
        with ThreadPoolExecutor(self.batches_at_once) as executor:
            pending: deque[Future[Result]] = deque()
            for batch in remaining:
                pending.append(executor.submit(function, batch))
                if len(pending) > self.batches_at_once:  # one waits, so that no thread does
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def identity_logits(self, batch: Sample) -> list[dict[str, Tensor]]:
        """Logits [1, F, B, outputs] of each group's tasks, by name, for a batch's images as they are."""
        with torch.inference_mode():
            return [
                group.view_logits(pixels, {name: ["identity"] for name in group.tasks})
                for group, pixels in zip(self.groups, batch.pixels, strict=True)
            ]

    def head_probabilities(self, batch: Sample) -> dict[str, npt.NDArray[np.float32]]:
        """Probabilities [F, B, C] of each task's heads for a batch's images as they are, without calibration."""
        found = {}
        with torch.inference_mode():
            for name, logits in chain.from_iterable(each.items() for each in self.identity_logits(batch)):
                rows = self.tasks[name].target.probabilities(logits[0].flatten(0, 1))
                found[name] = rows.view(*logits.shape[1:3], -1).cpu().numpy()
        return found

    def finish(self, outputs: Mapping[str, TaskOutput], errors: Sequence[str]) -> Predictions:
        """Calibrate the tasks' merged outputs and mark images that could not be decoded.

        Such images get equal probabilities, the number NaN and 0 views.
        """
        bad, tasks = [row for row, error in enumerate(errors) if error], {}
        for name, output in outputs.items():
            temperature = self.tasks[name].temperature
            tasks[name] = output._replace(
                probabilities=calibrate(output.probabilities, temperature),
                identity=calibrate(output.first_view(), temperature),
            )
            equal = 1 / output.probabilities.shape[1]
            for array, value in zip(tasks[name], (equal, equal, np.nan, 0), strict=True):
                if array is not None:
                    array[bad] = value
        return Predictions(tasks, list(errors))


def load_batches(
    paths: Sequence[str | Path],
    pipelines: Sequence[Pipeline],
    batch_size: int,
    workers: int = 0,
    read: Read | None = None,
    skip_bad: bool = False,
    pin_memory: bool = False,
) -> Iterator[Sample]:
    """Decode images into batches, uint8 [B, 3, H, W] for each pipeline; `Ensemble` has the other arguments."""
    images = ImageDataset(paths, pipelines, read=read or make_scaled_reader(pipelines), skip_bad=skip_bad)
    sampler = SequentialIndices(len(paths))
    loader = Loader(
        images,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # the loader draws from PyTorch's own otherwise, which is the caller's
    )
    return iter(loader)  # the workers start here, before the first batch is asked for
