"""Small pictures first, whole ones at the end; what a picture shows stays where it was."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heads.resizing import MULTIPLE, SHORTEST, Resizing


@given(
    least=st.floats(0.25, 0.99),
    until=st.floats(0.05, 1.0),
    epochs=st.integers(1, 40),
)
def test_shares_start_at_the_least_grow_and_end_whole(least: float, until: float, epochs: int) -> None:
    shares = [Resizing(least, until, epochs).share(epoch) for epoch in range(epochs)]
    assert shares[0] == pytest.approx(least)
    assert shares == sorted(shares)
    assert all(share == 1.0 for epoch, share in enumerate(shares) if epoch >= until * epochs)


@given(height=st.integers(8, 300), width=st.integers(8, 300), epoch=st.integers(0, 9))
def test_sides_stay_within_the_picture_and_above_the_stride(height: int, width: int, epoch: int) -> None:
    shown = Resizing(0.5, 0.8, 10)(torch.zeros(1, 3, height, width, dtype=torch.uint8), epoch)
    for side, whole in zip(shown.shape[-2:], (height, width), strict=True):
        assert min(SHORTEST, whole) <= side <= whole
        assert side == whole or side % MULTIPLE == 0


def test_whole_pictures_are_the_same_bytes() -> None:
    pixels = torch.randint(256, (2, 3, 64, 48), dtype=torch.uint8)
    assert Resizing(0.5, 0.5, 4)(pixels, 2) is pixels


def test_shrinking_by_half_keeps_means_and_places() -> None:
    """A vertical edge in the middle stays in the middle; flat colours stay what they are, in 0..1."""
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    pixels[..., 32:] = 255
    shown = Resizing(0.5, 1.0, 2)(pixels, 0)
    assert shown.shape == (1, 3, 32, 32)
    assert torch.allclose(shown[..., :15], torch.zeros(1))
    assert torch.allclose(shown[..., 17:], torch.ones(1))
    assert shown.mean() == pytest.approx(0.5, abs=1e-4)
    assert torch.allclose(shown, Resizing(0.5, 1.0, 2)(pixels.float() / 255, 0))
