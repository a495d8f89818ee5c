"""Small images first, whole ones at the end; what an image shows stays where it was."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heads.model.head import Head
from heads.train.resizing import MULTIPLE, SHORTEST, Resizing


@given(
    least=st.floats(0.25, 0.99),
    until=st.floats(0.05, 1.0),
    epochs=st.integers(1, 40),
)
def test_shares_start_at_the_least_grow_and_end_whole(least: float, until: float, epochs: int) -> None:
    shares = [Resizing(least, until, epochs).share(epoch) for epoch in range(epochs)]
    assert shares[0] == pytest.approx(least if epochs > 1 else 1.0)
    assert shares == sorted(shares)
    assert all(share == 1.0 for epoch, share in enumerate(shares) if epoch >= until * epochs)


@pytest.mark.parametrize("until", [0.05, 0.25, 0.5, 2 / 3, 0.75, 0.85, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("least", [0.25, 0.5, 0.7])
def test_the_last_epoch_is_whole_and_runs_that_grow_until_before_it_are_as_they_were(
    least: float, until: float
) -> None:
    for epochs in range(1, 31):
        shares = [Resizing(least, until, epochs).share(epoch) for epoch in range(epochs)]
        assert shares[-1] == 1.0
        if until * epochs <= epochs - 1:  # what configs and ablations were measured with, to the bit
            grown = [min(1.0, epoch / (until * epochs)) for epoch in range(epochs)]
            assert shares == [least + (1 - least) * each for each in grown]


@pytest.mark.parametrize("size", [(64, 48), (160, 120), (41, 41), (300, 33)])
def test_one_image_of_the_least_size_can_be_trained_on(size: tuple[int, int]) -> None:
    shown = Resizing(0.25, 1.0, 2)(torch.zeros(1, 3, *size, dtype=torch.uint8), 0)
    assert Head("resnet18", 2).train()(shown).isfinite().all()


@given(height=st.integers(8, 300), width=st.integers(8, 300), epoch=st.integers(0, 9))
def test_sides_stay_within_the_image_and_above_the_stride(height: int, width: int, epoch: int) -> None:
    shown = Resizing(0.5, 0.8, 10)(torch.zeros(1, 3, height, width, dtype=torch.uint8), epoch)
    for side, whole in zip(shown.shape[-2:], (height, width), strict=True):
        assert min(SHORTEST, whole) <= side <= whole
        assert side == whole or side % MULTIPLE == 0


def test_whole_images_are_the_same_bytes() -> None:
    pixels = torch.randint(256, (2, 3, 64, 48), dtype=torch.uint8)
    assert Resizing(0.5, 0.5, 4)(pixels, 2) is pixels


def test_shrinking_by_half_keeps_means_and_places() -> None:
    """A vertical edge in the middle stays in the middle; flat colours stay what they are, in 0..1."""
    pixels = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    pixels[..., 64:] = 255
    shown = Resizing(0.5, 1.0, 2)(pixels, 0)
    assert shown.shape == (1, 3, 64, 64)
    assert torch.allclose(shown[..., :31], torch.zeros(1))
    assert torch.allclose(shown[..., 33:], torch.ones(1))
    assert shown.mean() == pytest.approx(0.5, abs=1e-4)
    assert torch.allclose(shown, Resizing(0.5, 1.0, 2)(pixels.float() / 255, 0))
