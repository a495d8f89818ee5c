from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ensemble.inference.predictor
from data.images.decode import decode
from data.transforms.pipeline import Pipeline
from ensemble.inference.predictor import build_task, predict_tasks
from ensemble.inference.views import MERGES, make_views
from heads.build import TrainedHead, build_head, build_target, load_head
from heads.config.loader import check_config, load_config
from heads.config.task import TaskConfig

CPU = torch.device("cpu")
FIVE_VIEWS = [
    "hflip",
    {"shift": {"x": 0.2}},
    {"center_crop": {"share": 0.6}},
    {"brightness": {"factor": 2.0}},
]
SMALL = {"letterbox": {"height": 16, "width": 12}}


class Noisy(nn.Module):
    """Random linear logits of the pixels as they come, large enough to change with every view."""

    def __init__(self, classes: int, height: int = 16, width: int = 12, seed: int = 0) -> None:
        super().__init__()
        self.weight = torch.randn(classes, 3 * height * width, generator=torch.Generator().manual_seed(seed))
        self.shapes: set[torch.Size] = set()

    def forward(self, pixels: Tensor) -> Tensor:
        self.shapes.add(pixels.shape[1:])
        return (pixels.flatten(1) - 0.5) @ self.weight.T


class Recited(nn.Module):
    """The next of some logits [1, C] at each call."""

    def __init__(self, *logits: list[float]) -> None:
        super().__init__()
        self.logits = iter(logits)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.tensor([next(self.logits)])


@pytest.fixture(scope="module")
def paths(faces: Path) -> list[Path]:
    return sorted((faces / "eval" / "images").iterdir())[:40]


@pytest.fixture(scope="module")
def mask(configs: Path) -> TaskConfig:
    return load_config(TaskConfig, configs / "mask.yaml")


def changed(config: TaskConfig, **sections: Mapping[str, object]) -> TaskConfig:
    values = config.model_dump()
    for section, keys in sections.items():
        values[section] |= keys
    return check_config(TaskConfig, values, "changed")


def trained(head: nn.Module, config: TaskConfig) -> TrainedHead:
    return TrainedHead(head.eval(), build_target(config.label), config, {})


def all_of(tasks: Mapping, paths: list[Path], **how: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every task's (merged, identity) probabilities of all `paths`."""
    batches = list(predict_tasks(tasks, paths, CPU, **how))
    return {
        task: tuple(np.concatenate([batch[task][part] for batch in batches]) for part in (0, 1))
        for task in tasks
    }


def by_hand(head: nn.Module, config: TaskConfig, paths: list[Path], whole: bool = False) -> np.ndarray:
    """Probabilities of every view [V, N, C], one image and one view at a time."""
    pipeline = Pipeline(config.pixels.evaluate)
    least = None if whole else pipeline.least
    shown = [
        torch.from_numpy(pipeline(decode(path, least), (0, 0, 0)).transpose(2, 0, 1) / 255).float()
        for path in paths
    ]
    views = make_views(config.views.steps).values()
    with torch.inference_mode():
        return np.array([[head(view(one[None])).softmax(1)[0].numpy() for one in shown] for view in views])


@pytest.mark.parametrize("merge", MERGES)
def test_five_views_are_all_collected(merge: str, mask: TaskConfig, paths: list[Path]) -> None:
    config = changed(mask, pixels={"evaluate": [SMALL]}, views={"steps": FIVE_VIEWS, "merge": merge})
    head = Noisy(3)
    merged, identity = all_of({"mask": build_task([trained(head, config)])}, paths)["mask"]
    views = by_hand(head, config, paths)
    assert len(views) == 5
    np.testing.assert_allclose(identity, views[0], atol=1e-5)
    np.testing.assert_allclose(merged, MERGES[merge](torch.from_numpy(views)).numpy(), atol=1e-5)
    answers = merged.argmax(axis=1)
    for view in views:  # a loop that keeps its first or its last view alone would agree with it everywhere
        assert (answers != view.argmax(axis=1)).any()


def test_probabilities_are_averaged_and_not_logits(mask: TaskConfig, paths: list[Path]) -> None:
    config = changed(mask, views={"steps": ["hflip", {"brightness": {"factor": 0.9}}]})
    logits = [[20.0, 0.0, -9.0], [0.0, 1.2, -9.0], [0.0, 1.2, -9.0]]
    merged, _ = all_of({"mask": build_task([trained(Recited(*logits), config)])}, paths[:1])["mask"]
    assert np.mean(logits, axis=0).argmax() == 0
    assert merged.argmax() == 1
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(merged[0], softmax.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("merge", MERGES)
def test_a_number_is_the_mean_over_folds_and_views_of_the_years_distribution(
    merge: str, configs: Path, paths: list[Path]
) -> None:
    config = changed(
        load_config(TaskConfig, configs / "age.yaml"),
        pixels={"evaluate": [SMALL]},
        views={"steps": FIVE_VIEWS, "merge": merge},
    )
    low, high = config.label.distribution.low, config.label.distribution.high
    years = np.arange(low, high + 1)
    heads = [Noisy(len(years), seed=seed) for seed in (0, 1)]
    [batch] = predict_tasks({"age": build_task([trained(head, config) for head in heads])}, paths, CPU)
    by_view = np.array([by_hand(head, config, paths) @ years for head in heads])  # [folds, views, N]
    assert np.ptp(by_view, axis=(0, 1)).min() > 1
    np.testing.assert_allclose(batch["age"].number, by_view.mean(axis=(0, 1)), rtol=1e-4)


def test_heads_of_classes_predict_no_number(mask: TaskConfig, paths: list[Path]) -> None:
    config = changed(mask, pixels={"evaluate": [SMALL]})
    [batch] = predict_tasks({"mask": build_task([trained(Noisy(3), config)])}, paths, CPU)
    assert batch["mask"].number is None


def test_each_image_is_decoded_once_for_all_heads_folds_and_views(
    mask: TaskConfig, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[Path] = Counter()

    def counted(path: Path, least: tuple[int, int] | None) -> np.ndarray:
        decoded[path] += 1
        return decode(path, least)

    monkeypatch.setattr(ensemble.inference.predictor, "decode", counted)
    small = changed(mask, pixels={"evaluate": [SMALL]}, views={"steps": FIVE_VIEWS})
    other = changed(mask, pixels={"evaluate": [{"resize": {"height": 8, "width": 8}}]})
    tasks = {
        "first": build_task([trained(Noisy(3, seed=seed), small) for seed in (0, 1)]),
        "second": build_task([trained(Noisy(3, seed=2), small)]),
        "third": build_task([trained(Noisy(3, 8, 8), other)]),
    }
    all_of(tasks, paths, batch_size=7)
    assert decoded == Counter(paths)


def test_heads_with_other_pipelines_each_see_their_own_pixels(mask: TaskConfig, paths: list[Path]) -> None:
    small = changed(mask, pixels={"evaluate": [SMALL]})
    middle = changed(mask, pixels={"evaluate": [{"center_crop": {"height": 16, "width": 12}}]})
    large = changed(mask, pixels={"evaluate": [{"resize": {"height": 20, "width": 30}}]})
    heads = {"small": Noisy(3), "middle": Noisy(3), "large": Noisy(3, 20, 30)}
    configs = {"small": small, "middle": middle, "large": large}
    tasks = {name: build_task([trained(heads[name], configs[name])]) for name in heads}
    found = all_of(tasks, paths)
    for name, head in heads.items():
        expected = by_hand(head, configs[name], paths, whole=True).mean(axis=0)
        np.testing.assert_allclose(found[name][0], expected, atol=1e-5)
    assert heads["small"].shapes == {torch.Size([3, 16, 12])}
    assert heads["large"].shapes == {torch.Size([3, 20, 30])}


def test_folds_are_averaged(mask: TaskConfig, paths: list[Path]) -> None:
    config = changed(mask, pixels={"evaluate": [SMALL]}, views={"steps": FIVE_VIEWS})
    folds = [trained(Noisy(3, seed=seed), config) for seed in range(3)]
    together = all_of({"mask": build_task(folds)}, paths)["mask"]
    apart = [all_of({"mask": build_task([fold])}, paths)["mask"] for fold in folds]
    for part in (0, 1):
        np.testing.assert_allclose(together[part], np.mean([each[part] for each in apart], axis=0), atol=1e-6)


@pytest.fixture(scope="module")
def resnet(mask: TaskConfig) -> TrainedHead:
    torch.manual_seed(0)
    return trained(build_head(mask), mask)


@pytest.mark.parametrize("how", [{"batch_size": 3}, {"batch_size": 1}, {"batch_size": 4, "workers": 2}])
def test_batches_and_workers_change_nothing(how: dict, resnet: TrainedHead, paths: list[Path]) -> None:
    tasks = {"mask": build_task([resnet])}
    at_once = all_of(tasks, paths[:10], batch_size=10)["mask"]
    in_parts = all_of(tasks, paths[:10], **how)["mask"]
    for one, other in zip(at_once, in_parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("task", ["mask", "gender", "age"])
def test_a_trained_head_says_again_what_it_said_on_validation(task: str, runs: Path) -> None:
    head = load_head(runs / task / "best.safetensors")
    with np.load(runs / task / "validation.npz") as saved:
        paths, expected = [Path(path) for path in saved["path"][:12]], saved["probabilities"][:12]
    _, identity = all_of({task: build_task([head])}, paths)[task]
    np.testing.assert_allclose(identity, expected, atol=1e-5)
