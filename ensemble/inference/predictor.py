"""Run trained heads over images; each image is decoded once and shared by every head and view.

Probabilities of views and folds are merged and not logits, whose scale differs from image to image.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from data.dataset import ImageDataset, Sample, SequentialIndices, make_scaled_reader
from data.images.decode import Read
from data.runtime.signals import init_worker
from data.transforms.pipeline import Pipeline
from data.transforms.views import View, make_views
from ensemble.backends.engines import Backend, select_device, torch_backend
from ensemble.files.predictions import Predictions, TaskOutput
from heads.load import TrainedHead
from heads.objective.calibration import calibrate
from heads.objective.targets import Target


class ViewCache:
    """A batch of images whose views are computed once each, for any number of heads.

    Args:
        pixels: uint8 [N, 3, H, W].
    """

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self._identity = pixels.float() / 255
        self._views: dict[str, Tensor] = {}

    def __call__(self, name: str, view: View) -> Tensor:
        """Return the batch in a view, float [N, 3, H, W] in 0..1, cached under its name (see `make_views`)."""
        if name not in self._views:
            self._views[name] = view(self._identity)
        return self._views[name]


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

    def view_logits(self, images: ViewCache, names: Iterable[str] | None = None) -> Tensor:
        """Compute logits [V, F, N, outputs] of a batch in the named views (all if None), for each fold's head."""
        views = [images(name, self.views[name]) for name in (self.views if names is None else names)]
        return torch.stack([torch.stack([trained.head(view) for trained in self.heads]) for view in views])

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


class Predictor:
    """Trained heads on `device`, or on that of their backend.

    Attributes:
        tasks: by name, with the backend's modules in place of the heads.
        pipelines: one for each different `pixels.evaluate`; tasks with equal ones share pixels.
    """

    def __init__(
        self, tasks: Mapping[str, Task], backend: Backend = torch_backend, device: torch.device | None = None
    ) -> None:
        self.device = device or select_device(backend)
        self.tasks = {
            name: replace(task, heads=[replace(head, head=backend(head).to(self.device)) for head in task.heads])
            for name, task in tasks.items()
        }
        self._pixels = list(dict.fromkeys(task.pixels for task in tasks.values()))
        self.pipelines = [Pipeline(json.loads(pixels)) for pixels in self._pixels]

    def __call__(self, batch: Sample) -> Predictions:
        """Predict a batch, uint8 [B, 3, H, W] for each of `pipelines`, in all views of every task."""
        outputs = {}
        for name, images in self.to_device(batch).items():
            task = self.tasks[name]
            with torch.inference_mode():
                logits = task.view_logits(images)
                outputs[name] = task.merge_views(task.probabilities(logits), task.numbers(logits))
        return self.finish(outputs, batch.error)

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

    def to_device(self, batch: Sample) -> dict[str, ViewCache]:
        """Move a batch to the device; tasks with one pipeline share its pixels and views."""
        caches = {
            pixels: ViewCache(part.to(self.device, non_blocking=True))
            for pixels, part in zip(self._pixels, batch.pixels, strict=True)
        }
        return {name: caches[task.pixels] for name, task in self.tasks.items()}


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
    loader = DataLoader(
        images,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=init_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # the loader draws from PyTorch's own otherwise, which is the caller's
    )
    return iter(loader)
