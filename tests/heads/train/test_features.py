"""Kept features are what the frozen part makes of the same views; a stale or unfinished file is never read."""

import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.dataset import ImageDataset, Sample, SampleIndex
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.model.frozen_split import FrozenLayers
from heads.model.head import Head
from heads.train.features import FeatureDataset, cached_features

STEPS: list[Any] = [{"noise": {"std": 0.2, "p": 1.0}}, "hflip"]
PLENTY = 10**8
VIEWS = 2


def batches(images: ImageDataset, draws: Sequence[SampleIndex]) -> Iterable[Sample]:
    return DataLoader(images, 5, sampler=draws)


def interrupted(images: ImageDataset, draws: Sequence[SampleIndex]) -> Iterable[Sample]:
    yield next(iter(batches(images, draws)))
    raise KeyboardInterrupt


@pytest.fixture
def shown(squares: Any, tmp_path: Path) -> ImageDataset:
    paths = []
    for path in map(Path, squares.paths[:7]):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        paths.append(str(tmp_path / path.name))
    return ImageDataset(paths, [Pipeline(STEPS)], torch.arange(7), seed=3)


@pytest.fixture(scope="module")
def head() -> Head:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Head("resnet18", 3).eval()


@pytest.fixture
def keep(shown: ImageDataset, head: Head, tmp_path: Path) -> Callable[..., Path]:
    """Keep the features of `shown`; arguments replace the usual ones."""

    def keep_them(up_to: str = "all", **other: Any) -> Path:
        given = {"views": VIEWS, "batches": batches, "marks": [STEPS], "limit": PLENTY} | other
        return cached_features(tmp_path / "cache", FrozenLayers(head, up_to), shown, **given)

    return keep_them


@pytest.mark.parametrize(("up_to", "kind"), [("all", np.float32), ("layer2", np.float16)])
def test_epochs_show_the_views_in_turn(
    up_to: str, kind: Any, keep: Callable, shown: ImageDataset, head: Head
) -> None:
    features = FeatureDataset(keep(up_to), shown.targets)
    assert len(features) == 7
    prefix = FrozenLayers(head, up_to)
    for epoch, row, again in ((0, 0, 0), (1, 3, 0), (2, 3, 0), (3, 6, 0), (2, 3, 1), (1, 6, 3)):
        [kept], target, _ = features[(epoch, row, again)]
        with torch.inference_mode():
            expected = prefix(shown[((epoch + again) % VIEWS, row, 0)].pixels[0][None])[0]
        assert torch.allclose(kept.float(), expected, rtol=2e-3, atol=1e-4)
        assert target == row
        assert kept.numpy().dtype == kind
    assert not torch.equal(features[(0, 3, 0)].pixels[0], features[(1, 3, 0)].pixels[0])
    sent = pickle.loads(pickle.dumps(features))  # as a loader worker receives it
    assert torch.equal(sent[(1, 3, 0)].pixels[0], features[(1, 3, 0)].pixels[0])


def test_they_are_computed_once(keep: Callable) -> None:
    first = keep()
    assert keep(batches=interrupted) == first


@pytest.mark.parametrize("change", ["photograph", "weights", "steps", "seed", "views", "stage"])
def test_what_they_depend_on_makes_other_features(
    change: str, keep: Callable, shown: ImageDataset, head: Head
) -> None:
    first = keep()
    other: dict[str, Any] = {}
    if change == "photograph":
        Image.new("RGB", (32, 32), (9, 8, 7)).save(shown.paths[0])
        os.utime(shown.paths[0], ns=(1, 1))
    elif change == "weights":
        with torch.no_grad():
            head.backbone.get_parameter("conv1.weight").mul_(0.5)
    elif change == "seed":
        shown.seed = 4
    else:
        other = {"steps": {"marks": [STEPS[:1]]}, "views": {"views": 1}, "stage": {"up_to": "layer2"}}[change]
    assert keep(**other) != first


def test_an_interrupted_file_is_not_found_and_a_spoilt_one_is_made_anew(keep: Callable, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        keep(batches=interrupted)
    assert list((tmp_path / "cache").glob("*features*")) == []
    file = keep()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert keep().read_bytes() == whole


def test_the_limit_counts_what_is_in_use(keep: Callable, tmp_path: Path) -> None:
    size = VIEWS * 7 * 512 * 4
    with pytest.raises(InputError, match="2 views of 7 images as features takes"):
        keep(limit=size - 1)
    (tmp_path / "cache").mkdir()
    used, unused = (tmp_path / "cache" / f"pixels-{name}.npy" for name in ("used", "unused"))
    for file in (used, unused):
        file.write_bytes(bytes(1000))
    with pytest.raises(InputError, match="in use"):
        keep(limit=size + 999, in_use={used})
    keep(limit=size + 1000, in_use={used})
    assert used.exists()
    assert not unused.exists()


def test_features_that_float16_cannot_hold_are_refused(shown: ImageDataset, tmp_path: Path) -> None:
    large = Head("resnet18", 3, std=[1e-9] * 3).eval()
    with pytest.raises(InputError, match="float16"):
        cached_features(tmp_path / "cache", FrozenLayers(large, "stem"), shown, 1, batches, [], PLENTY)
