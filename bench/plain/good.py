"""The good loop: what one writes with care, and without this project, to answer images with trained heads.

One decode for all heads, in worker processes; channels-last memory; bfloat16 where the processor is faster with it;
all views of a head in one batch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.runtime.machine import gains_from_bfloat16
from data.transforms.pipeline import Pipeline
from data.transforms.views import make_views
from ensemble.files.predictions import TaskOutput
from ensemble.inference.predictor import MERGES
from heads.load import TrainedHead

BATCH = 64


class DecodedOnce(Dataset[list[Tensor]]):
    """Images decoded once: pixels uint8 [3, H, W] for each pipeline."""

    def __init__(self, paths: Sequence[Path], pipelines: Sequence[Pipeline]) -> None:
        self.paths, self.pipelines = paths, pipelines

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> list[Tensor]:
        with Image.open(self.paths[row]) as image:
            decoded = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        return [torch.from_numpy(pipeline(decoded, (0,)).transpose(2, 0, 1).copy()) for pipeline in self.pipelines]


def predict_well(
    heads: Mapping[str, TrainedHead], paths: Sequence[Path], workers: int, compiled: bool
) -> dict[str, TaskOutput]:
    """Predict images with all heads, each in the views of its config."""
    texts = [json.dumps(each.config.pixels.evaluate) for each in heads.values()]
    distinct = list(dict.fromkeys(texts))
    nets = {
        name: torch.compile(each.head, dynamic=False) if compiled else each.head  # a Head is in channels-last memory
        for name, each in heads.items()
    }
    views = {name: list(make_views(each.config.views.steps).values()) for name, each in heads.items()}
    outputs: dict[str, list[Tensor]] = {name: [] for name in heads}
    images = DecodedOnce(paths, [Pipeline(json.loads(text)) for text in distinct])
    for batch in DataLoader(images, BATCH, num_workers=workers):
        scaled = [pixels.float().div(255).contiguous(memory_format=torch.channels_last) for pixels in batch]
        for (name, trained), text in zip(heads.items(), texts, strict=True):
            pixels = torch.cat([view(scaled[distinct.index(text)]) for view in views[name]])
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=gains_from_bfloat16()):
                logits = nets[name](pixels)
            probabilities = trained.target.probabilities(logits.float())
            outputs[name].append(probabilities.view(len(views[name]), -1, probabilities.shape[1]))
    whole = {name: torch.cat(parts, dim=1) for name, parts in outputs.items()}
    return {
        name: TaskOutput(MERGES[heads[name].config.views.merge](each).numpy(), each[0].numpy())
        for name, each in whole.items()
    }
