"""Every step keeps uint8 RGB, gives the documented size, and depends only on its seed sequence."""

from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.transforms.ops import STEPS
from data.transforms.pipeline import Pipeline

SIZE = {"height": 24, "width": 16}
SIZED = ["resize", "letterbox", "center_crop", "random_crop", "zoom_crop"]
NOT_RANDOM = {"resize", "letterbox", "center_crop", "aligned_crop", "fit"}
OF_ANY_SIZE = {"fit", "aligned_crop"}  # their output's size depends on the image's shape
ROOT = Path(__file__).parents[3]
CONFIGS = [path for path in sorted((ROOT / "configs").rglob("*.yaml")) if "\ntask:" in path.read_text("utf-8")]


def noise_image(height=40, width=32):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def acting(name):
    """The step with arguments by which it always acts."""
    arguments = SIZE if name in [*SIZED, "fit"] else {} if name == "aligned_crop" else {"p": 1.0}
    return {name: arguments}


SIDE = st.integers(1, 70)


@settings(max_examples=300)
@given(st.sampled_from(sorted(STEPS.keys() - OF_ANY_SIZE)), *[SIDE] * 4, st.integers(0, 99))
def test_a_step_keeps_uint8_rgb_and_gives_the_documented_size(name, height, width, to_height, to_width, row):
    if name == "zoom_crop" or name not in SIZED:  # below 8 pixels a tenth of the area has no pixel
        height, width, to_height, to_width = (max(side, 8) for side in (height, width, to_height, to_width))
    arguments = {"height": to_height, "width": to_width} if name in SIZED else {}
    arguments |= {"least": 0.1} if name == "zoom_crop" else {}
    result = Pipeline([{name: arguments}])(noise_image(height, width), [row])
    assert result.dtype == np.uint8
    assert result.shape == ((to_height, to_width, 3) if name in SIZED else (height, width, 3))


@given(*[SIDE] * 4)
@settings(max_examples=40)
def test_a_fitted_image_touches_its_box_and_is_letterboxed_without_another_scaling(height, width, to_height, to_width):
    box = {"height": to_height, "width": to_width}
    image = noise_image(height, width)
    fitted = Pipeline([{"fit": box}])(image, [1])
    spare = np.subtract((to_height, to_width), fitted.shape[:2])
    assert min(spare) == 0
    letterbox = Pipeline([{"letterbox": box}])
    assert np.array_equal(letterbox(fitted, [1]), letterbox(image, [1]))


ALBUMENTATIONS = {
    "resize": lambda height, width: A.Resize(height, width, area_for_downscale="image"),
    "fit": lambda height, width: A.LongestMaxSize(max_size_hw=(height, width), area_for_downscale="image"),
    "letterbox": lambda height, width: A.Compose([ALBUMENTATIONS["fit"](height, width), A.PadIfNeeded(height, width)]),
    "center_crop": lambda height, width: A.CenterCrop(height, width, pad_if_needed=True),
}


@pytest.mark.parametrize("name", ALBUMENTATIONS)
@given(*[st.integers(1, 300)] * 4, st.booleans())
@settings(max_examples=60)
def test_fixed_steps_are_albumentations_bit_for_bit(name, height, width, to_height, to_width, mirrored):
    image = noise_image(height, width)
    image = image[:, ::-1] if mirrored else image  # not contiguous
    ours = Pipeline([{name: {"height": to_height, "width": to_width}}])(image, [0])
    assert np.array_equal(ours, ALBUMENTATIONS[name](to_height, to_width)(image=image)["image"])


def test_resize_by_a_whole_factor_is_pillows_box_filter():
    pixels = noise_image(48, 32)
    ours = Pipeline([{"resize": SIZE}])(pixels, [0])
    theirs = np.asarray(Image.fromarray(pixels).resize((16, 24), Image.Resampling.BOX))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_crops_and_flips_are_slices_and_padding_is_black():
    pixels = noise_image(40, 32)
    assert np.array_equal(Pipeline([{"hflip": {"p": 1.0}}])(pixels, [0]), pixels[:, ::-1])
    assert np.array_equal(Pipeline([{"center_crop": SIZE}])(pixels, [0]), pixels[8:32, 8:24])
    padded = Pipeline([{"center_crop": {"height": 44, "width": 32}}])(pixels, [0])
    assert np.array_equal(padded, np.pad(pixels, ((2, 2), (0, 0), (0, 0))))
    white = Pipeline([{"letterbox": {"height": 20, "width": 20}}])(np.full((20, 40, 3), 255, np.uint8), [0])
    assert (white[:, 0, 0] == np.repeat([0, 255, 0], [5, 10, 5])).all()


@pytest.mark.parametrize("name", STEPS)
def test_results_depend_on_the_seed_sequence_alone_and_the_input_is_not_changed(name):
    pixels, pipeline = noise_image(), Pipeline([acting(name)])
    pipeline(pixels, [9, 9, 9])  # earlier calls must not matter
    again, fresh = pipeline(pixels, [3, 1, 4]), Pipeline([acting(name)])(pixels, [3, 1, 4])
    assert np.array_equal(again, fresh)
    differ = any(not np.array_equal(pipeline(pixels, [3, 1, row]), fresh) for row in range(5, 8))
    assert differ == (name not in NOT_RANDOM | {"hflip", "grey"})  # those always act alike at p = 1
    assert np.array_equal(pixels, noise_image())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_validation_of_every_shipped_config_is_not_random(path):
    steps = yaml.safe_load(path.read_text(encoding="utf-8"))["pixels"]["evaluate"]
    assert {step if isinstance(step, str) else next(iter(step)) for step in steps} <= NOT_RANDOM
