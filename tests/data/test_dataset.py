"""A sample depends on the seed and the index alone, whichever was read before and in whichever process."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.dataset import ImageDataset, SequentialIndices
from data.images.decode import decode
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline

ROWS = 6


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for row in range(ROWS):
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(folder / f"{row}.png")
    return [str(folder / f"{row}.png") for row in range(ROWS)]


def images(paths: list[str], seed: int = 0) -> ImageDataset:
    return ImageDataset(paths, [Pipeline(["hflip", {"noise": {"p": 1.0}}])], torch.arange(len(paths)), seed)


def test_a_sample_is_the_image_in_channels_first_in_each_pipeline_with_its_target(paths: list[str]) -> None:
    targets = torch.rand(ROWS, 5)
    data = ImageDataset(paths, [Pipeline([]), Pipeline([{"hflip": {"p": 1.0}}])], targets)
    sample = data[(0, 2, 0)]
    expected = torch.from_numpy(np.array(Image.open(paths[2]))).permute(2, 0, 1)
    assert torch.equal(sample.pixels[0], expected)
    assert torch.equal(sample.pixels[1], expected.flip(2))
    assert torch.equal(sample.target, targets[2])
    assert (sample.error, len(data), data.paths) == ("", ROWS, paths)
    assert ImageDataset(paths, [])[(0, 2, 0)].target == 0


def test_seed_epoch_row_and_repeat_each_change_the_augmentation(paths: list[str]) -> None:
    same = [paths[0]] * 2
    results = [images(same, seed)[index].pixels[0] for seed in (0, 1) for index in product((0, 1), repeat=3)]
    assert len({pixels.numpy().tobytes() for pixels in results}) == 16


def test_the_entropy_of_the_first_draw_is_seed_epoch_and_row_alone(paths: list[str]) -> None:
    """So that runs of version 0.1 are repeated exactly: trailing zeros do not change a seed sequence."""
    data = images(paths, seed=5)
    expected = data.pipelines[0](decode(Path(paths[2])), (5, 3, 2))
    assert np.array_equal(data[(3, 2, 0)].pixels[0].permute(1, 2, 0), expected)


def test_workers_give_what_one_process_gives(paths: list[str]) -> None:
    indices = [(epoch, row, 0) for epoch in (0, 1) for row in reversed(range(ROWS))]
    loaders = (DataLoader(images(paths), 4, sampler=indices, num_workers=number) for number in (0, 2))
    alone, shared = (torch.cat([batch.pixels[0] for batch in loader]) for loader in loaders)
    assert torch.equal(alone, shared)


def test_an_undecodable_image_raises_its_path_or_is_black_with_the_error(paths: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken\udcff.png"  # a name that is not UTF-8
    broken.write_bytes(b"not an image")
    both = [str(broken), paths[0]]
    pipelines = [Pipeline([{"resize": {"height": 12, "width": 10}}])]
    with pytest.raises(InputError, match=r"broken\\udcff\.png: not an image"):
        ImageDataset(both, pipelines)[(0, 0, 0)]
    [batch] = DataLoader(ImageDataset(both, pipelines, skip_bad=True), 2, sampler=SequentialIndices(2))
    assert batch.pixels[0].shape == (2, 3, 12, 10)
    assert batch.pixels[0].flatten(1).any(dim=1).tolist() == [False, True]
    assert ["not an image" in error for error in batch.error] == [True, False]
