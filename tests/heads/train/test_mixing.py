"""A mixed image is made of two halves of images of the batch, and its target of theirs."""

import torch
from torch import Tensor

from heads.train.mixing import mix_halves

POOL = torch.arange(3)
HALVES = ([0, 1, 2], [3, 4, 5])


def batch(rows: int = 12) -> tuple[Tensor, Tensor]:
    """Pixels that tell their row and column: 10 * row + column."""
    pixels = (10 * torch.arange(rows).view(rows, 1, 1, 1) + torch.arange(6)).expand(rows, 3, 8, 6)
    return pixels.to(torch.uint8), torch.arange(rows) % 3


def mix(
    pixels: Tensor, targets: Tensor, seed: int = 0, p: float = 1.0, rare: int | None = None
) -> tuple[Tensor, Tensor]:
    return mix_halves(pixels, targets, (seed, 1, 2), p, rare, POOL)


def test_one_half_is_the_images_own_and_the_other_the_same_half_of_a_partner() -> None:
    pixels, targets = batch()
    mixed, soft = mix(pixels, targets)
    own_sides = set()
    for row in range(len(pixels)):
        assert torch.equal(mixed[row], mixed[row, :1, :1].expand(3, 8, 6))
        sources = [set((mixed[row, 0, 0, columns] // 10).tolist()) for columns in HALVES]
        assert (mixed[row, 0, 0] % 10).tolist() == [0, 1, 2, 3, 4, 5]
        assert {row} in sources
        [left], [right] = sources
        assert torch.equal(soft[row], (torch.eye(3)[targets[left]] + torch.eye(3)[targets[right]]) / 2)
        own_sides.add(left == row)
    assert own_sides == {True, False}


def test_partners_are_of_the_rare_class_if_the_batch_has_any() -> None:
    pixels, targets = batch()
    assert (mix(pixels, targets, rare=2)[1][:, 2] >= 0.5).all()
    mixed, soft = mix(pixels, torch.zeros(12, dtype=torch.int64), rare=2)
    assert (soft[:, 0] == 1).all()
    assert not torch.equal(mixed, pixels)


def test_distributions_are_averaged() -> None:
    targets = torch.eye(4)[:, :3] * 0.5 + 0.1
    mixed = mix(batch(4)[0], targets)[1]
    pairs = [(targets[a] + targets[b]) / 2 for a in range(4) for b in range(4)]
    assert all(any(torch.allclose(row, pair) for pair in pairs) for row in mixed)


def test_p_is_the_share_of_mixed_images_and_the_input_stays() -> None:
    pixels, targets = batch(400 % 25 + 25)
    before = pixels.clone()
    unmixed, soft = mix(pixels, targets, p=0.0)
    assert torch.equal(unmixed, pixels)
    assert torch.equal(soft.argmax(dim=1), targets)
    changed = [(mix(pixels, targets, seed, 0.5)[0] != pixels).flatten(1).any(dim=1) for seed in range(40)]
    assert 0.4 < torch.stack(changed).float().mean() < 0.55  # a partner may be the image itself
    assert torch.equal(pixels, before)


def test_the_same_entropy_gives_the_same_batch() -> None:
    first, again, other = (mix(*batch(), seed, p=0.5)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
