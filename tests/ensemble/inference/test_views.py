import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy.stats import gmean
from torch import Tensor

from ensemble.inference.views import (
    MERGES,
    VIEWS,
    brightness,
    center_crop,
    geometric,
    hflip,
    make_views,
    mean,
    shift,
    vote,
)


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_a_flipped_view_flips_back(pixels: Tensor) -> None:
    assert not torch.equal(hflip(pixels), pixels)
    assert torch.equal(hflip(hflip(pixels)), pixels)


def test_a_shifted_image_is_the_same_where_the_two_overlap(pixels: Tensor) -> None:
    moved = shift(pixels, x=0.1, y=0.2)  # 3 to the right, 4 down
    assert torch.equal(moved[..., 4:, 3:], pixels[..., :-4, :-3])
    moved = shift(pixels, x=-0.1, y=-0.2)
    assert torch.equal(moved[..., :-4, :-3], pixels[..., 4:, 3:])


def test_a_shift_repeats_the_edge_into_the_gap(pixels: Tensor) -> None:
    moved = shift(pixels, x=0.1)
    assert torch.equal(moved[..., :3], pixels[..., :1].expand(-1, -1, -1, 3))


def test_a_image_shifted_and_shifted_back_has_its_inside_back(pixels: Tensor) -> None:
    there_and_back = shift(shift(pixels, x=0.2, y=-0.1), x=-0.2, y=0.1)
    assert torch.equal(there_and_back[..., 2:, :-6], pixels[..., 2:, :-6])


def test_a_crop_of_all_is_the_image(pixels: Tensor) -> None:
    assert torch.equal(center_crop(pixels, share=1.0), pixels)


def test_a_crop_is_what_pillow_makes_of_it(pixels: Tensor) -> None:
    middle = Image.fromarray(pixels[0, 0].numpy()).crop((3, 2, 27, 18))
    expected = np.asarray(middle.resize((30, 20), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(center_crop(pixels, share=0.8)[0, 0].numpy(), expected, atol=1e-5)


def test_brightness_multiplies_and_stops_at_1(pixels: Tensor) -> None:
    expected = np.minimum(pixels.numpy() * 1.5, 1)
    np.testing.assert_allclose(brightness(pixels, factor=1.5).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_keeps_shape_and_range_and_leaves_its_input_alone(name: str, pixels: Tensor) -> None:
    before = pixels.clone()
    seen = VIEWS[name](pixels)
    assert seen.shape == pixels.shape
    assert 0 <= seen.min() <= seen.max() <= 1
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("steps", [[], ["hflip", "identity"], ["identity", "hflip"], ["identity", "identity"]])
def test_identity_comes_first_and_once(steps: list[str], pixels: Tensor) -> None:
    views = make_views(steps)
    assert list(views) == ["identity", "hflip"][: len(set(steps)) or 1]
    assert torch.equal(views["identity"](pixels), pixels)


def test_views_are_called_with_their_arguments_in_their_order(pixels: Tensor) -> None:
    views = make_views([{"shift": {"x": 0.1}}, {"shift": {"x": -0.1}}, {"brightness": {"factor": 0.5}}])
    seen = [view(pixels) for view in views.values()]
    expected = [pixels, shift(pixels, x=0.1), shift(pixels, x=-0.1), pixels * 0.5]
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["hflop"], "step 1: 'hflop' is unknown, expected one of identity, hflip"),
        (["hflip", {"shift": {"x": 0.6}}], r"step 2 \(shift\): x: .*less than or equal to 0.5"),
        ([{"shift": {"z": 0.1}}], r"z: .*shift takes x, y"),
        ([{"shift": {"x": "0.1"}}], "x: Input should be a valid number"),
        ([{"center_crop": {"share": 0.0}}], "share: .*greater than 0"),
        ([{"hflip": {"p": 0.5}}], r"p: .*hflip takes no arguments"),
        (["hflip", "hflip"], "hflip stands in the list twice"),
        ([{"shift": {"x": 0.1}}, {"shift": {"x": 0.1}}], r"shift\(x=0.1\) stands in the list twice"),
        (["center_crop", {"center_crop": {"share": 0.9}}], "stands in the list twice"),
        ([{"shift": {"x": 0.1, "y": 0.2}}, {"shift": {"y": 0.2, "x": 0.1}}], "stands in the list twice"),
        (["hflop", {"shift": {"x": 2.0}}], "(?s)hflop.*shift"),
    ],
)
def test_a_list_of_views_that_is_wrong_is_refused(steps: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_views(steps)


probabilities = (
    arrays.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6)
    .flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=st.floats(0.01, 1)))
    .map(lambda values: values / values.sum(axis=2, keepdims=True))
)


@pytest.mark.parametrize("name", MERGES)
@given(views=probabilities)
@settings(max_examples=25, deadline=None)
def test_every_merge_gives_probabilities_and_keeps_one_view_s_answer(
    name: str, views: npt.NDArray[np.float64]
) -> None:
    merged = MERGES[name](torch.from_numpy(views)).numpy()
    np.testing.assert_allclose(merged.sum(axis=1), 1)
    alike = np.repeat(views[:1], len(views), axis=0)
    same = MERGES[name](torch.from_numpy(alike)).numpy()
    np.testing.assert_array_equal(same.argmax(axis=1), views[0].argmax(axis=1))


@given(views=probabilities)
@settings(max_examples=25, deadline=None)
def test_mean_and_geometric_are_numpy_s_and_scipy_s(views: npt.NDArray[np.float64]) -> None:
    np.testing.assert_allclose(mean(torch.from_numpy(views)).numpy(), views.mean(axis=0))
    expected = gmean(views, axis=0)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(geometric(torch.from_numpy(views)).numpy(), expected, rtol=1e-9)


def test_a_geometric_mean_over_zeros_stays_finite() -> None:
    merged = geometric(torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]))
    np.testing.assert_allclose(merged.numpy(), [[0.5, 0.5], [1.0, 0.0]], atol=1e-6)


@given(views=probabilities)
@settings(max_examples=25, deadline=None)
def test_a_vote_goes_to_a_class_with_most_votes_and_ties_to_the_larger_mean(
    views: npt.NDArray[np.float64],
) -> None:
    answers = vote(torch.from_numpy(views)).numpy().argmax(axis=1)
    for row, answer in enumerate(answers):
        votes = np.bincount(views[:, row].argmax(axis=1), minlength=views.shape[2])
        most = np.flatnonzero(votes == votes.max())
        means = views[:, row].mean(axis=0)
        assert answer in most
        assert means[answer] == pytest.approx(means[most].max())


def test_three_half_hearted_views_outvote_two_sure_ones() -> None:
    views = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.49, 0.51]], [[0.49, 0.51]], [[0.49, 0.51]]])
    assert vote(views).argmax().item() == 1
    assert mean(views).argmax().item() == 0


def test_a_tied_vote_goes_to_the_larger_mean() -> None:
    views = torch.tensor([[[0.6, 0.4], [0.9, 0.1]], [[0.1, 0.9], [0.4, 0.6]]])
    assert vote(views).argmax(dim=1).tolist() == [1, 0]
