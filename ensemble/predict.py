"""Heads and photographs to probabilities: each photograph decoded once, shared by every head and view."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.images import decode
from data.transforms import Pipeline
from ensemble.views import MERGES, View, make_views
from heads.build import TrainedHead

Probabilities = npt.NDArray[np.float32]


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

    def view_probabilities(self, pixels: Tensor) -> Tensor:
        """Probabilities of each view, averaged over folds, [V, N, C], from uint8 pixels [N, 3, H, W]."""
        shown = pixels.float() / 255
        return torch.stack(
            [
                torch.stack([h.target.probabilities(h.head(seen)) for h in self.heads]).mean(dim=0)
                for seen in (view(shown) for view in self.views.values())
            ]
        )


def make_task(heads: Sequence[TrainedHead]) -> Task:
    """A task from its heads; all its views are those of the first head's config."""
    config = heads[0].config
    return Task(heads, make_views(config.views.steps), config.views.merge)


class Decoded(Dataset[tuple[Tensor, ...]]):
    """Photographs decoded once, as uint8 pixels [3, H, W] for each of several pipelines."""

    def __init__(self, paths: Sequence[Path], pipelines: Sequence[Pipeline]) -> None:
        self.paths = np.array([str(path) for path in paths], dtype=np.str_)
        self.pipelines = list(pipelines)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        picture = decode(Path(self.paths[row]))
        seen = [pipeline(picture, (0, 0, row)) for pipeline in self.pipelines]
        return tuple(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) for pixels in seen)


def predict_tasks(
    tasks: Mapping[str, Task],
    paths: Sequence[Path],
    device: torch.device,
    batch_size: int = 64,
    workers: int = 0,
) -> Iterator[dict[str, tuple[Probabilities, Probabilities]]]:
    """Yield for each batch of `paths`, in order, every task's probabilities.

    Yields:
        For each task two arrays [B, C], rows summing to 1: all views merged, and the identity view alone.
    """
    shared = list(dict.fromkeys(task.pixels for task in tasks.values()))
    pipelines = [Pipeline(json.loads(pixels)) for pixels in shared]
    loader = DataLoader(Decoded(paths, pipelines), batch_size, num_workers=workers)
    for head in (head.head for task in tasks.values() for head in task.heads):
        head.to(device)
    for batch in loader:
        pixels = {name: part.to(device) for name, part in zip(shared, batch, strict=True)}
        result = {}
        for name, task in tasks.items():
            with torch.inference_mode():
                views = task.view_probabilities(pixels[task.pixels])
            merged = MERGES[task.merge](views)
            result[name] = (merged.cpu().numpy(), views[0].cpu().numpy())
        yield result
