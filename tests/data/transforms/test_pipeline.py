"""Pipelines: a seed for each step, and the size at which an image may be decoded."""

import inspect
import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.images.decode import decode_bytes
from data.transforms.ops import STEPS
from data.transforms.pipeline import Pipeline, least_size, random_steps, working_size

WORKING = {"height": 40, "width": 30}
CROPPING_TO_SIZE = {"center_crop", "random_crop", "zoom_crop"}


def test_steps_of_the_same_probability_act_independently():
    # The left half tells whether the flip acted, its colour whether the other step did.
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[:, :2, 0] = 200
    pipeline = Pipeline([{"hflip": {"p": 0.5}}, {"grey": {"p": 0.5}}])
    results = [pipeline(pixels, [0, 0, row]) for row in range(800)]
    flipped = np.array([not result[0, 0].any() for result in results])
    grey = np.array([len(set(result.max(axis=(0, 1)).tolist())) == 1 for result in results])
    assert abs(flipped.mean() - 0.5) < 0.07
    assert abs(grey.mean() - 0.5) < 0.07
    assert abs(np.corrcoef(flipped, grey)[0, 1]) < 0.12  # 3.4 standard errors


@pytest.mark.parametrize("p", [None, 1.0])
@pytest.mark.parametrize("name", STEPS)
def test_steps_named_random_are_those_that_seeds_change(name, p):
    takes = inspect.signature(STEPS[name]).parameters
    arguments = {key: value for key, value in {**WORKING, "p": p}.items() if key in takes and value is not None}
    pixels = np.random.default_rng(0).integers(0, 256, (60, 48, 3), dtype=np.uint8)
    results = {Pipeline([{name: arguments}])(pixels, [seed]).tobytes() for seed in range(40)}
    assert random_steps([{name: arguments}]) == [name] * (len(results) > 1)


def jpeg_of(height, width):
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = np.stack([rows, columns, (np.sin(9 * rows) + np.cos(7 * columns)) / 4 + 0.5], axis=2)
    buffer = io.BytesIO()
    Image.fromarray((waves * 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@settings(max_examples=40)
@given(st.sampled_from(["letterbox", "resize", "fit"]), st.integers(8, 400), st.integers(8, 400))
def test_a_jpeg_decoded_at_the_least_size_looks_like_the_whole_one(step, height, width):
    pipeline, encoded = Pipeline([{step: WORKING}]), jpeg_of(height, width)
    whole, scaled = (decode_bytes(encoded, "x", least) for least in (None, pipeline.least))
    assert scaled.shape[0] >= min(height, 40)
    assert scaled.shape[1] >= min(width, 30)
    if height < 2 * 40 or width < 2 * 30:
        np.testing.assert_array_equal(whole, scaled)  # no smaller scale is large enough
    of_whole, of_scaled = pipeline(whole, (0,)), pipeline(scaled, (0,))
    if of_whole.shape == of_scaled.shape:
        # Of a rounded side the edges of a letterbox may lie a pixel off.
        assert np.quantile(np.abs(of_whole.astype(int) - of_scaled), 0.8) <= 12
    else:  # a side that no scale divides, rounded
        assert step == "fit"
        assert max(abs(a - b) for a, b in zip(of_whole.shape, of_scaled.shape, strict=True)) == 1


@pytest.mark.parametrize("first", sorted(STEPS.keys() - {"letterbox", "resize", "fit", "aligned_crop"}))
def test_images_are_decoded_whole_if_another_step_comes_first(first):
    step = {first: {"height": 90, "width": 90}} if first in CROPPING_TO_SIZE else first
    assert Pipeline([step, {"letterbox": WORKING}]).least is None
    cropped = first in CROPPING_TO_SIZE  # from a smaller copy they would be blurred
    assert (working_size([step, {"letterbox": WORKING}]) is None) == cropped
    assert least_size([Pipeline([{"letterbox": WORKING}]), Pipeline([step])]) is None
    assert Pipeline([{"letterbox": WORKING}, step]).least == (30, 40)


@settings(max_examples=40)
@given(st.integers(8, 400), st.floats(0.9, 1.5), st.sampled_from([0.8, 1.0, 1.3]))
def test_an_aligned_crop_of_a_jpeg_decoded_at_the_least_size_looks_like_that_of_the_whole_one(width, tall, margin):
    crop = {"aligned_crop": {"margin": margin}}
    pipeline = Pipeline([crop, {"letterbox": WORKING}])
    height = round(tall * width)
    # So close to the shape that separates tall portraits from square ones, a side rounded at 1/8 of the size decides.
    assume(abs(height / width - 1.15) > 8 / width)
    encoded = jpeg_of(height, width)
    whole, scaled = (decode_bytes(encoded, "x", least) for least in (None, pipeline.least))
    far = np.abs(pipeline(whole, (0,)).astype(int) - pipeline(scaled, (0,)))
    assert np.quantile(far, 0.8) <= 24
