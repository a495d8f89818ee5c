"""An item depends on the seed and the draw alone, whichever item was asked for before and whoever asks."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.dataset import ImageDataset, sequential_indices
from data.images.decode import decode
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline

ROWS = 6


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    result = [folder / f"{row}.png" for row in range(ROWS)]
    for path in result:
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    return [str(path) for path in result]


def images(paths: list[str], seed: int = 0, steps: tuple = ("hflip", {"noise": {"p": 1.0}})) -> ImageDataset:
    return ImageDataset(paths, torch.arange(len(paths)), Pipeline(steps), seed)


def test_an_item_is_the_image_in_channels_first_with_its_target(paths: list[str]) -> None:
    pixels, target = images(paths, steps=())[(0, 2, 0)]
    assert torch.equal(pixels, torch.from_numpy(np.array(Image.open(paths[2]))).permute(2, 0, 1))
    assert target == 2


def test_an_item_does_not_depend_on_what_was_asked_before(paths: list[str]) -> None:
    expected = images(paths)[(3, 1, 0)][0]
    other = images(paths)
    for draw in [(0, 0, 0), (3, 5, 0), (3, 1, 1), (3, 1, 0), (3, 1, 0)]:
        result = other[draw][0]
    assert torch.equal(result, expected)


def test_an_item_does_not_depend_on_global_randomness(paths: list[str]) -> None:
    expected = images(paths)[(3, 1, 0)][0]
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(images(paths)[(3, 1, 0)][0], expected)


def test_seed_epoch_row_and_being_drawn_again_each_change_the_augmentation(paths: list[str]) -> None:
    same = [paths[0]] * 2
    draws = [images(same, seed)[draw][0] for seed in (0, 1) for draw in product((0, 1), repeat=3)]
    assert len({draw.numpy().tobytes() for draw in draws}) == 16


def test_a_row_drawn_once_is_augmented_by_seed_epoch_and_row_alone(paths: list[str]) -> None:
    shown = images(paths, seed=5)
    assert np.array_equal(
        shown[(3, 2, 0)][0].permute(1, 2, 0), shown.pipeline(decode(Path(paths[2])), (5, 3, 2))
    )


def test_workers_give_what_one_process_gives(paths: list[str]) -> None:
    draws = [(epoch, row, 0) for epoch in (0, 1) for row in reversed(range(ROWS))]
    alone, shared = (
        torch.cat([pixels for pixels, _ in DataLoader(images(paths), 4, sampler=draws, num_workers=workers)])
        for workers in (0, 2)
    )
    assert torch.equal(alone, shared)


def test_distributions_come_whole(paths: list[str]) -> None:
    targets = torch.rand(ROWS, 5)
    data = ImageDataset(paths, targets, Pipeline([]))
    assert len(data) == ROWS
    assert torch.equal(data[(0, 4, 0)][1], targets[4])


def test_paths_and_targets_must_be_equally_many(paths: list[str]) -> None:
    with pytest.raises(ValueError, match="6 paths and 2 targets"):
        ImageDataset(paths, torch.arange(2), Pipeline([]))


def test_an_unreadable_image_is_told_by_its_path(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"broken\.png"):
        images([str(broken)])[(0, 0, 0)]


def test_evaluation_takes_each_row_once_in_order() -> None:
    assert sequential_indices(3) == [(0, 0, 0), (0, 1, 0), (0, 2, 0)]
