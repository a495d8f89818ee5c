from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gmean
from torch import Tensor, nn

import data.dataset
from data.images.decode import decode
from data.transforms.pipeline import Pipeline
from data.transforms.views import VIEWS as VIEW_FUNCTIONS
from data.transforms.views import make_views
from ensemble import Ensemble
from ensemble.files.predictions import Predictions
from ensemble.inference.predictor import MERGES, Predictor, Task
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.load import build_head, load_head
from tests.ensemble.inference.toys import Linear, changed, make_task, sample

VIEWS = ["hflip", {"shift": {"x": 0.2}}, {"center_crop": {"share": 0.6}}, {"brightness": {"factor": 2.0}}]


@pytest.fixture(scope="module")
def paths(faces: Path) -> list[Path]:
    return sorted((faces / "eval" / "images").iterdir())[:20]


@pytest.fixture(scope="module")
def mask(configs: Path) -> TaskConfig:
    return load_config(TaskConfig, configs / "mask.yaml")


def predict(tasks: dict[str, Task], paths: list[Path], **options: int) -> Predictions:
    return Ensemble(tasks, **options).predict(paths)


def by_hand(head: nn.Module, config: TaskConfig, paths: list[Path], whole: bool = False) -> np.ndarray:
    """Probabilities of every view [V, N, C], one image and one view at a time."""
    pipeline = Pipeline(config.pixels.evaluate)
    images = [pipeline(decode(path, None if whole else pipeline.least), (0, 0, 0)) for path in paths]
    pixels = [torch.from_numpy(image.transpose(2, 0, 1) / 255).float() for image in images]
    views = make_views(config.views.steps).values()
    return np.array([[head(view(one[None])).softmax(1)[0].numpy() for one in pixels] for view in views])


@pytest.mark.parametrize("merge", MERGES)
def test_all_views_are_merged_and_folds_averaged(merge, mask, configs, paths) -> None:
    views = {"steps": VIEWS, "merge": merge}
    config = changed(mask, views=views)
    age = changed(load_config(TaskConfig, configs / "age.yaml"), views=views)
    years = np.arange(age.label.distribution.low, age.label.distribution.high + 1)
    heads = [Linear(3, seed=seed) for seed in range(3)]
    age_heads = [Linear(len(years), seed=seed) for seed in range(2)]
    found = predict({"mask": make_task(config, *heads), "age": make_task(age, *age_heads)}, paths).tasks
    expected = np.mean([by_hand(head, config, paths) for head in heads], axis=0)
    assert len(expected) == 5
    np.testing.assert_allclose(found["mask"].identity, expected[0], atol=1e-5)
    merged = MERGES[merge](torch.from_numpy(expected)).numpy()
    np.testing.assert_allclose(found["mask"].probabilities, merged, atol=1e-5)
    for view in expected:  # a loop that keeps one view alone would agree with it everywhere
        assert (merged.argmax(axis=1) != view.argmax(axis=1)).any()
    by_view = np.array([by_hand(head, age, paths) @ years for head in age_heads])
    assert np.ptp(by_view, axis=(0, 1)).min() > 1
    np.testing.assert_allclose(found["age"].value, by_view.mean(axis=(0, 1)), rtol=1e-4)
    assert found["mask"].value is None


class Recited(nn.Module):
    """The next of some logits [1, C] at each call."""

    def __init__(self, *logits: list[float]) -> None:
        super().__init__()
        self.logits = iter(logits)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.tensor([next(self.logits)])


def test_probabilities_are_averaged_and_not_logits(mask: TaskConfig, paths: list[Path]) -> None:
    logits = [[20.0, 0.0, -9.0], [0.0, 1.2, -9.0], [0.0, 1.2, -9.0]]
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.mean(logits, axis=0).argmax() != softmax.mean(axis=0).argmax()
    views = changed(mask, views={"steps": ["hflip", {"brightness": {"factor": 0.9}}]})
    folds = changed(mask, views={"steps": []})
    for task in (make_task(views, Recited(*logits)), make_task(folds, *(Recited(each) for each in logits))):
        [merged] = predict({"mask": task}, paths[:1]).tasks["mask"].probabilities
        np.testing.assert_allclose(merged, softmax.mean(axis=0), rtol=1e-5)


def test_an_image_is_decoded_once_and_each_pipeline_gets_its_own_pixels(mask, paths, monkeypatch) -> None:
    decoder = Mock(side_effect=decode)
    monkeypatch.setattr(data.dataset, "decode", decoder)
    small = changed(mask)
    middle = changed(mask, pixels={"evaluate": [{"center_crop": {"height": 16, "width": 12}}]})
    large = changed(mask, pixels={"evaluate": [{"resize": {"height": 20, "width": 30}}]})
    heads = {"small": Linear(3), "same": Linear(3), "middle": Linear(3), "large": Linear(3, 20, 30)}
    configs = {"small": small, "same": small, "middle": middle, "large": large}
    found = predict({name: make_task(configs[name], heads[name]) for name in heads}, paths, batch_size=7)
    assert sorted(str(call.args[0]) for call in decoder.call_args_list) == sorted(map(str, paths))
    for name, head in heads.items():
        expected = by_hand(head, configs[name], paths, whole=True).mean(axis=0)
        np.testing.assert_allclose(found.tasks[name].probabilities, expected, atol=1e-5)
    assert {shape[1:] for shape in heads["large"].batches} >= {torch.Size([3, 20, 30])}


def test_a_view_that_heads_share_is_computed_once(mask: TaskConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[str]()

    def counted(pixels: Tensor) -> Tensor:
        calls["hflip"] += 1
        return pixels.flip(-1)

    monkeypatch.setitem(VIEW_FUNCTIONS, "hflip", counted)
    tasks = {name: make_task(changed(mask, views={"steps": ["hflip"]})) for name in ("one", "other")}
    calls.clear()
    Predictor(tasks)(sample(torch.zeros(2, 3, 16, 12, dtype=torch.uint8)))
    assert calls["hflip"] == 1


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"batch_size": 1}, {"batch_size": 4, "workers": 2}])
def test_batches_and_workers_change_nothing(options: dict, mask: TaskConfig, paths: list[Path]) -> None:
    torch.manual_seed(0)
    small = {"backbone": {"name": "resnet18", "weights": "random"}}
    config = changed(mask, **small, pixels={"evaluate": [{"letterbox": {"height": 32, "width": 32}}]})
    tasks = {"mask": make_task(config, build_head(config))}
    whole = predict(tasks, paths[:6], batch_size=6).tasks["mask"]
    parts = predict(tasks, paths[:6], **options).tasks["mask"]
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-5)
    np.testing.assert_allclose(whole.first_view(), parts.first_view(), atol=1e-5)


@pytest.mark.parametrize("task", ["mask", "gender", "age"])
def test_a_trained_head_repeats_its_predictions_of_validation(task: str, runs: Path) -> None:
    head = load_head(runs / task / "best.safetensors")
    with np.load(runs / task / "validation.npz") as saved:
        paths, expected = [Path(path) for path in saved["path"][:12]], saved["probabilities"][:12]
    found = predict({task: make_task(head.config, head.head)}, paths).tasks[task]
    np.testing.assert_allclose(found.first_view(), expected, atol=1e-5)


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 6))
def test_merges_are_numpy_s_scipy_s_and_counted_votes(seed: int, count: int, classes: int) -> None:
    views = np.random.default_rng(seed).dirichlet(np.ones(classes), (count, 5)).round(1) + 0.1  # with ties
    views /= views.sum(axis=2, keepdims=True)
    merged = {name: merge(torch.from_numpy(views)).numpy() for name, merge in MERGES.items()}
    np.testing.assert_allclose(merged["mean"], views.mean(axis=0))
    geometric = gmean(views, axis=0)
    np.testing.assert_allclose(merged["geometric"], geometric / geometric.sum(axis=1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(merged["vote"].sum(axis=1), 1)
    for row, chosen in enumerate(merged["vote"].argmax(axis=1)):
        votes = np.bincount(views[:, row].argmax(axis=1), minlength=classes)
        most, means = np.flatnonzero(votes == votes.max()), views[:, row].mean(axis=0)
        assert chosen in most
        assert means[chosen] == pytest.approx(means[most].max())


def test_a_geometric_mean_over_zeros_is_finite() -> None:
    merged = MERGES["geometric"](torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]))
    np.testing.assert_allclose(merged.numpy(), [[0.5, 0.5], [1.0, 0.0]], atol=1e-6)
