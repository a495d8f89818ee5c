"""A mixed image is made of two halves of images of the batch, and its target of theirs."""

import torch
from torch import Tensor

from heads.train.mixing import mix_halves


def batch(rows: int = 12) -> tuple[Tensor, Tensor]:
    """Pixels that tell their row and column: 10 * row + column."""
    pixels = (10 * torch.arange(rows).view(rows, 1, 1, 1) + torch.arange(6)).expand(rows, 3, 8, 6)
    return pixels.to(torch.uint8), torch.arange(rows) % 3


def mix(
    pixels: Tensor, targets: Tensor, seed: int = 0, p: float = 1.0, rare: int | None = None
) -> tuple[Tensor, Tensor]:
    return mix_halves(pixels, targets, (seed, 1, 2), p, rare, torch.arange(3))


def test_one_half_is_the_images_own_and_the_other_the_same_half_of_a_partner() -> None:
    pixels, targets = batch()
    before, (mixed, soft), own_is_left = pixels.clone(), mix(pixels, targets), set()
    for row in range(len(pixels)):
        assert torch.equal(mixed[row], mixed[row, :1, :1].expand(3, 8, 6))
        assert (mixed[row, 0, 0] % 10).tolist() == [0, 1, 2, 3, 4, 5]
        [left], [right] = (set((half // 10).tolist()) for half in mixed[row, 0, 0].split(3))
        assert row in (left, right)
        assert torch.equal(soft[row], (torch.eye(3)[targets[left]] + torch.eye(3)[targets[right]]) / 2)
        own_is_left.add(left == row)
    assert own_is_left == {True, False}
    assert torch.equal(pixels, before)


def test_partners_are_of_the_rare_class_if_the_batch_has_any() -> None:
    pixels, targets = batch()
    assert (mix(pixels, targets, rare=2)[1][:, 2] >= 0.5).all()
    mixed, soft = mix(pixels, torch.zeros(12, dtype=torch.int64), rare=2)
    assert (soft[:, 0] == 1).all()
    assert not torch.equal(mixed, pixels)


def test_distributions_are_averaged() -> None:
    targets = torch.eye(4)[:, :3] * 0.5 + 0.1
    pairs = [(targets[a] + targets[b]) / 2 for a in range(4) for b in range(4)]
    assert all(any(torch.allclose(row, pair) for pair in pairs) for row in mix(batch(4)[0], targets)[1])


def test_p_is_the_share_of_mixed_images_and_equal_entropy_gives_equal_batches() -> None:
    pixels, targets = batch(25)
    unmixed, soft = mix(pixels, targets, p=0.0)
    assert torch.equal(unmixed, pixels)
    assert torch.equal(soft.argmax(dim=1), targets)
    batches = [mix(pixels, targets, seed, 0.5)[0] for seed in range(40)]
    changed = torch.stack([(mixed != pixels).flatten(1).any(dim=1) for mixed in batches])
    assert 0.4 < changed.float().mean() < 0.55  # a partner may be the image itself
    assert torch.equal(batches[0], mix(pixels, targets, 0, 0.5)[0])
    assert not torch.equal(batches[0], batches[1])
