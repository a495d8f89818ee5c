import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from data.transforms.views import VIEWS, center_crop, hflip, make_views, shift


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_a_flip_is_from_left_to_right_and_a_crop_of_all_is_the_image(pixels: Tensor) -> None:
    assert torch.equal(hflip(pixels), pixels.flip(3))
    assert torch.equal(center_crop(pixels, share=1.0), pixels)


def test_a_shift_moves_pixels_and_repeats_the_edge(pixels: Tensor) -> None:
    moved = shift(pixels, x=0.1, y=0.2)  # 3 to the right, 4 down
    assert torch.equal(moved[..., 4:, 3:], pixels[..., :-4, :-3])
    assert torch.equal(moved[..., 4:, :3], pixels[..., :-4, :1].expand(-1, -1, -1, 3))
    moved = shift(pixels, x=-0.1, y=-0.2)
    assert torch.equal(moved[..., :-4, :-3], pixels[..., 4:, 3:])


def test_a_crop_is_pillow_s(pixels: Tensor) -> None:
    middle = Image.fromarray(pixels[0, 0].numpy()).crop((3, 2, 27, 18))
    expected = np.asarray(middle.resize((30, 20), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(center_crop(pixels, share=0.8)[0, 0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_keeps_shape_and_range_and_leaves_its_input_alone(name: str, pixels: Tensor) -> None:
    before = pixels.clone()
    view = VIEWS[name](pixels)
    assert view.shape == pixels.shape
    assert 0 <= view.min() <= view.max() <= 1
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("steps", [[], ["hflip", "identity"], ["identity", "hflip"], ["identity", "identity"]])
def test_identity_is_first_and_once(steps: list[str], pixels: Tensor) -> None:
    views = make_views(steps)
    assert list(views) == ["identity", "hflip"][: len(set(steps)) or 1]
    assert torch.equal(views["identity"](pixels), pixels)


def test_views_are_called_with_their_arguments_in_their_order(pixels: Tensor) -> None:
    views = make_views([{"shift": {"x": 0.1}}, {"shift": {"x": -0.1}}, {"brightness": {"factor": 1.5}}])
    expected = [pixels, shift(pixels, x=0.1), shift(pixels, x=-0.1), (pixels * 1.5).clamp(max=1)]
    assert all(torch.equal(view(pixels), each) for view, each in zip(views.values(), expected, strict=True))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["hflop"], r"step 1: 'hflop' is unknown, did you mean hflip\? expected one of identity, hflip"),
        (["hflip", {"shift": {"x": 0.6}}], r"step 2 \(shift\): x: .*less than or equal to 0.5"),
        ([{"center_crop": {"share": 0.0}}], "share: .*greater than 0"),
        (["center_crop", {"center_crop": {"share": 0.9}}], "is in the list twice"),
        ([{"shift": {"x": 0.1, "y": 0.2}}, {"shift": {"y": 0.2, "x": 0.1}}], "is in the list twice"),
    ],
)
def test_a_wrong_list_of_views_is_refused(steps: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_views(steps)
