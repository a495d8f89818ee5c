"""A mixed image is made of two of the batch, and its target of theirs in the same shares."""

import numpy as np
import pytest
import torch
from torch import Tensor

from heads.train.mixing import METHODS, Mixing, cutmix, halves, mixup

POOL = torch.arange(3)


def batch(rows: int = 12) -> tuple[Tensor, Tensor]:
    """Each image is one flat colour, its row's number, so that every pixel says where it comes from."""
    pixels = torch.arange(rows, dtype=torch.uint8).view(rows, 1, 1, 1).repeat(1, 3, 8, 6)
    return pixels, torch.arange(rows) % 3


@pytest.mark.parametrize("method", ["cutmix", "halves"])
def test_the_target_says_how_much_of_each_image_is_there(method: str) -> None:
    pixels, targets = batch()
    mixed, soft = Mixing(method, 1.0, 1.0, None, POOL)(pixels, targets, (0, 1, 2))
    for row in range(len(pixels)):
        shares = torch.zeros(3)
        for source, count in zip(*mixed[row, 0].unique(return_counts=True), strict=True):
            shares[targets[int(source)]] += count / mixed[row, 0].numel()
        assert torch.allclose(shares, soft[row], atol=1e-6)


def test_mixup_blends_pixels_and_targets_by_one_share() -> None:
    first, second = torch.zeros(3, 4, 4), torch.ones(3, 4, 4)
    mixed, share = mixup(first, second, 0.4, np.random.default_rng(5))
    assert torch.allclose(mixed, torch.full((3, 4, 4), 1 - share))
    pixels, soft = Mixing("mixup", 1.0, 1.0, None, POOL)(*batch(), (0,))
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() <= pixels.max() <= 11 / 255 + 1e-6
    assert torch.allclose(soft.sum(dim=1), torch.ones(12))


def test_halves_keeps_each_half_on_its_own_side() -> None:
    first = torch.arange(6).repeat(3, 4, 1)
    second = first + 100
    seen = set()
    for seed in range(8):
        mixed, share = halves(first, second, 1.0, np.random.default_rng(seed))
        assert share == 0.5
        left, right = mixed[0, 0, :3].tolist(), mixed[0, 0, 3:].tolist()
        assert (left, right) in [([100, 101, 102], [3, 4, 5]), ([0, 1, 2], [103, 104, 105])]
        seen.add(left[0])
    assert seen == {0, 100}


def test_cutmix_takes_the_area_that_its_share_says() -> None:
    first, second = torch.zeros(3, 20, 16), torch.ones(3, 20, 16)
    for seed in range(20):
        mixed, share = cutmix(first, second, 1.0, np.random.default_rng(seed))
        assert mixed.mean().item() == pytest.approx(1 - share)


def test_one_of_the_pair_is_of_the_rare_class() -> None:
    pixels, targets = batch()
    _, soft = Mixing("halves", 1.0, 1.0, 2, POOL)(pixels, targets, (3,))
    assert (soft[:, 2] >= 0.5).all()


def test_without_a_rare_image_partners_come_from_the_batch() -> None:
    pixels, _ = batch()
    mixed, soft = Mixing("halves", 1.0, 1.0, 2, POOL)(pixels, torch.zeros(12, dtype=torch.int64), (3,))
    assert (soft[:, 0] == 1).all()
    assert not torch.equal(mixed, pixels)


def test_distributions_are_mixed_as_they_are() -> None:
    pixels, _ = batch(4)
    soft = torch.eye(4)[:, :3] * 0.5 + 0.1
    _, mixed = Mixing("halves", 1.0, 1.0, None, POOL)(pixels, soft, (1,))
    pairs = [(soft[a] + soft[b]) / 2 for a in range(4) for b in range(4)]
    assert all(any(torch.allclose(row, pair) for pair in pairs) for row in mixed)


@pytest.mark.parametrize("method", list(METHODS))
def test_p_0_changes_nothing_and_the_input_is_left_alone(method: str) -> None:
    pixels, targets = batch()
    before = pixels.clone()
    mixed, soft = Mixing(method, 0.0, 1.0, None, POOL)(pixels, targets, (0,))
    assert torch.allclose(mixed.float() * (255 if method == "mixup" else 1), pixels.float(), atol=1e-4)
    assert torch.equal(soft.argmax(dim=1), targets)
    Mixing(method, 1.0, 1.0, None, POOL)(pixels, targets, (0,))
    assert torch.equal(pixels, before)


def test_the_same_entropy_gives_the_same_batch() -> None:
    mixing = Mixing("cutmix", 0.5, 1.0, None, POOL)
    first, again, other = (mixing(*batch(), entropy)[0] for entropy in ((0, 1, 2), (0, 1, 2), (0, 1, 3)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
