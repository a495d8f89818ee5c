"""Class activation maps of the small heads that the tests train."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.images.decode import decode
from ensemble.joint import load_labels
from ensemble.report.analysis import maps
from ensemble.report.analysis.errors import wrong_predictions
from ensemble.report.load.evaluation import Evaluation
from ensemble.report.load.runs import find_task_runs, load_validation
from heads.config.task import Classifier
from heads.load import TrainedHead, load_head
from heads.model.head import Head
from heads.run.folder import run_folder

Compute = Callable[[Evaluation], dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]]


@pytest.fixture
def evaluation(runs: Path, configs: Path) -> Evaluation:
    return load_validation(runs, load_labels(configs / "joint.yaml"))[0]


@pytest.fixture
def compute(runs: Path, faces: Path) -> Compute:
    """The maps of six wrong predictions."""

    def of(evaluation: Evaluation) -> dict:
        wrong = wrong_predictions(evaluation)[:6]
        return maps.wrong_maps(runs, evaluation, wrong, [str(faces / "train/images" / each.image) for each in wrong])

    return of


@pytest.mark.parametrize("task", ["mask", "age"])
def test_a_map_s_mean_is_the_change_of_the_log_odds_with_the_features(runs: Path, task: str) -> None:
    trained = load_head(run_folder(runs, task).best)
    assert isinstance(trained.head, Head)
    pixels = torch.randint(0, 256, (3, 64, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scale = torch.ones((), requires_grad=True)
    logits = trained.head.classifier(scale * trained.head.features(pixels[None]))
    probabilities = trained.target.probabilities(logits)[0]
    [slope] = torch.autograd.grad((probabilities[2] / probabilities[0]).log(), scale)
    assert maps.activation_map(trained, pixels, 2, 0).mean() == pytest.approx(slope.item(), rel=1e-4)
    assert maps.activation_map(trained, pixels, 0, 2).mean() == pytest.approx(-slope.item(), rel=1e-4)


def test_every_wrong_head_has_a_map_of_the_pixels_that_it_gets(
    evaluation: Evaluation, compute: Compute, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, wrong = compute(evaluation), wrong_predictions(evaluation)[:6]
    assert found.keys() == {(each.image, task.task) for each in wrong for task in each.tasks if task.wrong}
    for (name, _), (pixels, map_) in found.items():
        image = Image.fromarray(decode(faces / "train/images" / name)).resize(pixels.shape[1::-1], Image.Resampling.BOX)
        assert np.abs(pixels - np.asarray(image, float)).mean() < 5
        assert (map_.shape, map_.min() < map_.max()) == ((2, 2), True)
    monkeypatch.setattr(maps, "find_task_runs", lambda *given: 2 * find_task_runs(*given))
    assert compute(evaluation) == {}  # one of the folds predicted each image
    folds = compute(replace(evaluation, submissions={"a.csv": evaluation.predicted}))
    assert all((folds[key][1] == map_).all() for key, (_, map_) in found.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda head: {"box_margin": 0.3},
        lambda head: {"target": replace(head.target, classes=("a", "b"))},
        lambda head: {"config": head.config.model_copy(update={"classifier": Classifier(hidden=[8])})},
    ],
)
def test_heads_of_other_images_classes_or_layers_have_no_maps(
    evaluation: Evaluation, compute: Compute, change: Callable[[TrainedHead], dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "load_head", lambda path: replace(head := load_head(path), **change(head)))
    assert compute(evaluation) == {}
