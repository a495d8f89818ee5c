"""Class activation maps (Zhou et al. 2016, arXiv:1512.04150) of wrong predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.dataset import ImageDataset, make_scaled_reader
from data.images.decode import Pixels
from data.transforms.pipeline import Pipeline
from ensemble.report.analysis.errors import ImageResult
from ensemble.report.load.evaluation import Evaluation
from ensemble.report.load.runs import NAME, find_task_runs
from heads.load import TrainedHead, load_head
from heads.model.head import Head

Map = npt.NDArray[np.float32]


def wrong_maps(
    runs: Path, evaluation: Evaluation, predictions: Sequence[ImageResult], paths: Sequence[str]
) -> dict[tuple[str, str], tuple[Pixels, Map]]:
    """Pixels [H, W, 3] as a head got them, and their map [h, w], by image and task, of each wrong task.

    A map is that of `activation_map`, the mean over the task's folds. There is none of heads with hidden layers, of
    heads trained on faces cropped to boxes, which are unknown, and of folds whose validation is reported on.

    Args:
        runs: folder of the heads' runs.
        evaluation: with the class names of each task.
        predictions: of some of its images.
        paths: of the images, in the order of `predictions`.
    """
    maps = {}
    for place, (task, classes) in enumerate(evaluation.tasks.items()):
        heads = [load_head(run.best) for run in find_task_runs(runs, task)]
        if not all(_has_maps(head, classes) for head in heads) or (NAME in evaluation.submissions and len(heads) > 1):
            continue
        pipelines = [Pipeline(heads[0].config.pixels.evaluate)]
        images = ImageDataset(paths, pipelines, read=make_scaled_reader(pipelines))
        for row, each in enumerate(predictions):
            if (found := each.tasks[place]).wrong:
                [pixels] = images[0, row, 0].pixels
                against = classes.index(found.predicted), classes.index(found.truth)
                folds = [activation_map(head, pixels, *against) for head in heads]
                maps[each.image, task] = pixels.permute(1, 2, 0).numpy(), np.mean(folds, axis=0)
    return maps


def activation_map(trained: TrainedHead, pixels: Tensor, predicted: int, truth: int) -> Map:
    """Map [h, w] of where uint8 pixels [3, H, W] speak for class `predicted` (above 0) or for `truth` (below 0).

    The maps of the head's outputs, weighted by the gradient of log p(predicted) - log p(truth). Where each class has
    an output it is the difference of their class activation maps, whose mean is the difference of their logits
    without the bias.
    """
    assert isinstance(trained.head, Head)
    with torch.no_grad():
        logits, maps = trained.head.activation_maps(pixels[None])
    logits.requires_grad_()
    logs = trained.target.probabilities(logits)[0].clamp_min(torch.finfo(torch.float32).tiny).log()
    [weights] = torch.autograd.grad(logs[predicted] - logs[truth], logits)
    return np.asarray((weights[0, :, None, None] * maps[0]).sum(dim=0).numpy())


def _has_maps(trained: TrainedHead, classes: Sequence[str]) -> bool:
    same = trained.target.classes == tuple(classes)
    return same and trained.box_margin is None and not trained.config.classifier.hidden
