"""Batches are shared out once each; workers end with their script; features are those of the same views."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import BatchSampler
from torchvision import models

from data.dataset import ImageDataset
from data.images.decode import decode
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.model.head import Head
from heads.train.loaders import (
    FeatureDataset,
    ImageSource,
    ProcessBatches,
    check_batch_size,
    make_features,
    make_loader,
)
from heads.train.sampler import BalancedSampler

ROOT = Path(__file__).parents[3]


@given(rows=st.integers(1, 40), size=st.integers(1, 9), processes=st.integers(1, 5))
def test_batches_are_shared_out_once_each(rows: int, size: int, processes: int) -> None:
    indices = [(2, row, 0) for row in range(rows)]
    batches = list(BatchSampler(indices, size, drop_last=False))
    samplers = [ProcessBatches(indices, size, process, processes) for process in range(processes)]
    for batch, *shares in zip(batches, *samplers, strict=True):
        assert sorted(index for share in shares for index in share) == batch
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert {len(sampler) for sampler in samplers} == {len(batches)}
    whole = [ProcessBatches(indices, size, process, processes, whole=True) for process in range(processes)]
    assert Counter(tuple(batch) for sampler in whole for batch in sampler) == Counter(map(tuple, batches))
    assert [len(list(sampler)) for sampler in whole] == [len(sampler) for sampler in whole]
    training = ProcessBatches(indices, size, drop_small=True)
    kept = [batch for batch in batches if 2 * len(batch) >= size] or batches
    assert (list(training), len(training)) == (kept, len(kept))


def test_a_loader_has_every_row_of_each_epoch_and_empty_shares(squares: Any) -> None:
    labels = np.array([0] * 5 + [1] * 2)
    images = ImageDataset(squares.paths[:7], [Pipeline([])], torch.from_numpy(np.arange(7)))
    sampler = BalancedSampler(labels, list("abcdefg"), power=1.0)
    loaders = [make_loader(images, ProcessBatches(sampler, 3, process, 2), 0, 0) for process in (0, 1)]
    for epoch in (0, 1):
        sampler.epoch = epoch
        shares = [[batch.target.tolist() for batch in loader] for loader in loaders]
        rows = sampler.rows(epoch).tolist()
        assert shares == [[rows[0:3:2], rows[3:6:2], rows[6:]], [rows[1:3:2], rows[4:6:2], []]]
    *_, empty = loaders[1]
    assert empty.pixels[0].shape == (0, 3, 32, 32)


SCRIPT = """
import gc
import torch
from data.dataset import Sample
from data.runtime.errors import InputError, run_script
from heads.train.loaders import ProcessBatches, make_loader

class Cycle: pass

def main():
    gc.disable()  # a cycle stays until somebody collects it
    cycle = Cycle()
    cycle.itself = cycle
    samples = [Sample((torch.zeros(1),), torch.zeros(1), "")] * 8
    cycle.loader = make_loader(samples, ProcessBatches(range(8), 2), 1, 0)
    cycle.batches = iter(cycle.loader)
    print(len(next(cycle.batches).target), flush=True)
    raise InputError("wrong")

run_script(main)
"""


def test_a_script_does_not_wait_for_workers_of_a_loader_in_a_cycle() -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "2\n", "error: wrong\n")


@pytest.mark.parametrize(
    ("size", "rows", "batch", "processes", "refused"),
    [
        ((32, 32), 1, 224, 1, True),
        ((32, 24), 225, 1, 1, True),
        ((32, 32), 224, 224, 1, False),
        ((32, 32), 225, 224, 1, False),  # the last batch is left out
        ((33, 32), 1, 224, 1, False),  # two places in the last stage
        ((32, 32), 9, 6, 2, True),  # shares of two and one
        ((32, 32), 10, 6, 2, False),
    ],
)
def test_a_batch_too_small_for_batch_norm_is_refused_before_training(
    size: tuple[int, int], rows: int, batch: int, processes: int, refused: bool
) -> None:
    backbone = models.resnet18(weights=None).train()
    shares = [ProcessBatches(range(rows), batch, process, processes, drop_small=True) for process in range(processes)]
    smallest = min(len(share) for shares_of_one in shares for share in shares_of_one)
    if refused:
        with pytest.raises(InputError, match=rf"batch_size={batch}: the last of {rows} images per epoch make"):
            check_batch_size(size, rows, batch, processes)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            backbone(torch.zeros(smallest, 3, *size))
    else:
        check_batch_size(size, rows, batch, processes)
        backbone(torch.zeros(smallest, 3, *size))


STEPS: list[Any] = [{"noise": {"std": 0.2, "p": 1.0}}, "hflip"]


@pytest.fixture
def images(squares: Any, tmp_path: Path) -> ImageDataset:
    paths = []
    for path in map(Path, squares.paths[:7]):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        paths.append(str(tmp_path / path.name))
    return ImageDataset(paths, [Pipeline(STEPS)], torch.arange(7), seed=3)


@pytest.fixture
def head(tiny_backbone: None) -> Head:
    return Head("resnet18", 3).eval()


@pytest.fixture
def features(images: ImageDataset, head: Head, accelerate_anew: None, tmp_path: Path) -> Callable[..., FeatureDataset]:
    """Make the features of `images`; arguments replace the usual ones."""

    def make(views: int = 2, steps: Any = STEPS, limit: int = 10**8) -> FeatureDataset:
        source = ImageSource(decode, cache=tmp_path / "cache", limit=limit)
        return make_features(head, images, steps, views, True, source, 0, Accelerator(cpu=True))

    return make


def test_epochs_use_the_features_of_the_views_in_turn(features: Callable, images: ImageDataset, head: Head) -> None:
    for epoch, row, repeat in ((0, 0, 0), (1, 3, 0), (2, 3, 0), (2, 3, 1), (1, 6, 3)):
        sample = features()[(epoch, row, repeat)]
        with torch.inference_mode():
            expected = head.features(images[((epoch + repeat) % 2, row, 0)].pixels[0][None])[0]
        assert torch.allclose(sample.pixels[0], expected, rtol=2e-3, atol=1e-4)
        assert sample.target == row


@pytest.mark.parametrize("change", ["", "image", "weights", "seed", "steps", "views", "limit"])
def test_features_are_computed_again_if_what_they_depend_on_changes(
    change: str, features: Callable, images: ImageDataset, head: Head, tmp_path: Path
) -> None:
    features()
    if change == "image":
        Image.new("RGB", (32, 32), (9, 8, 7)).save(images.paths[6])
        os.utime(images.paths[6], ns=(1, 1))
    elif change == "weights":
        head.backbone.get_parameter("conv1.weight").data *= 0.5
    elif change == "seed":
        images.seed = 4
    if change == "limit":
        with pytest.raises(InputError, match="3 views of 7 images as features takes"):
            features(views=3, limit=5 * 7 * 64 * 4 - 1)
    else:
        features(**{"steps": {"steps": STEPS[:1]}, "views": {"views": 1}}.get(change, {}))
    assert len(list((tmp_path / "cache").glob("features-*"))) == (1 if change in ("", "limit") else 2)
