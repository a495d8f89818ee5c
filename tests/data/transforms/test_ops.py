"""Every step keeps uint8 RGB, gives the size that it promises, and depends on its entropy alone."""

from pathlib import Path

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
STILL = ["resize", "letterbox", "center_crop", "aligned_crop"]
OF_ANY_SIZE = {"fit", "aligned_crop"}  # what they give depends on the image's shape: no size is promised
# A step that always acts, and acts visibly on noise.
RANDOM = {
    "random_crop": SIZE,
    "zoom_crop": SIZE,
    "brightness_contrast": {"p": 1.0},
    "colour": {"p": 1.0},
    "noise": {"p": 1.0},
    "affine": {"p": 1.0},
    "cutout": {"p": 1.0},
    "jpeg": {"p": 1.0},
    "downscale": {"p": 1.0},
    "blur": {"p": 1.0},
    "drawn_mask": {"p": 1.0},
}
ROOT = Path(__file__).parents[3]
TASK_CONFIGS = [
    path
    for path in sorted((ROOT / "configs").rglob("*.yaml"))
    if "task" in yaml.safe_load(path.read_text(encoding="utf-8"))
]


def noise_image(height: int = 40, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(STEPS.keys() - OF_ANY_SIZE))
@pytest.mark.parametrize("shape", [(40, 32), (32, 40), (17, 9), (64, 64)])
def test_a_step_keeps_uint8_rgb_and_gives_the_size_it_promises(name: str, shape: tuple[int, int]) -> None:
    step = {name: SIZE} if name in SIZED else name
    for draw in range(5):
        result = Pipeline([step])(noise_image(*shape), [0, 0, draw])
        assert result.dtype == np.uint8
        assert result.shape == ((24, 16, 3) if name in SIZED else (*shape, 3))


FROM_ONE, FROM_EIGHT = st.integers(1, 70), st.integers(8, 70)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["resize", "letterbox", "center_crop", "random_crop"]), *[FROM_ONE] * 4)
def test_sized_steps_take_any_image_to_any_size(
    name: str, height: int, width: int, to_height: int, to_width: int
) -> None:
    pipeline = Pipeline([{name: {"height": to_height, "width": to_width}}])
    assert pipeline(noise_image(height, width), [1]).shape == (to_height, to_width, 3)


@settings(max_examples=40, deadline=None)
@given(*[FROM_EIGHT] * 4, st.integers(0, 99))
def test_zoom_crop_takes_any_image_to_any_size(
    height: int, width: int, to_height: int, to_width: int, row: int
) -> None:
    pipeline = Pipeline([{"zoom_crop": {"height": to_height, "width": to_width, "least": 0.1}}])
    assert pipeline(noise_image(height, width), [row]).shape == (to_height, to_width, 3)


@given(*[FROM_ONE] * 4)
@settings(max_examples=40, deadline=None)
def test_a_fitted_image_touches_its_box_and_is_letterboxed_without_another_scaling(
    height: int, width: int, to_height: int, to_width: int
) -> None:
    box = {"height": to_height, "width": to_width}
    image = noise_image(height, width)
    fitted = Pipeline([{"fit": box}])(image, [1])
    assert fitted.shape[0] == to_height or fitted.shape[1] == to_width
    assert fitted.shape[0] <= to_height
    assert fitted.shape[1] <= to_width
    letterbox = Pipeline([{"letterbox": box}])
    assert np.array_equal(letterbox(fitted, [1]), letterbox(image, [1]))


def test_letterbox_of_a_hairline_image_still_has_its_size() -> None:
    pipeline = Pipeline([{"letterbox": SIZE}])
    assert pipeline(noise_image(2, 900), [0]).shape == (24, 16, 3)
    assert pipeline(noise_image(900, 2), [0]).shape == (24, 16, 3)


def test_resize_that_shrinks_by_a_whole_factor_is_pillows_box_filter() -> None:
    pixels = noise_image(48, 32)
    ours = Pipeline([{"resize": SIZE}])(pixels, [0])
    theirs = np.asarray(Image.fromarray(pixels).resize((16, 24), Image.Resampling.BOX))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_center_crop_is_a_slice_and_pads_with_black() -> None:
    pixels = noise_image(40, 32)
    assert np.array_equal(Pipeline([{"center_crop": SIZE}])(pixels, [0]), pixels[8:32, 8:24])
    padded = Pipeline([{"center_crop": {"height": 44, "width": 32}}])(pixels, [0])
    assert np.array_equal(padded[2:42], pixels)
    assert not padded[:2].any()
    assert not padded[42:].any()


def test_letterbox_keeps_the_shape_of_what_it_shows() -> None:
    white = np.full((20, 40, 3), 255, dtype=np.uint8)
    result = Pipeline([{"letterbox": {"height": 20, "width": 20}}])(white, [0])
    assert (result[5:15] == 255).all()
    assert not result[:5].any()
    assert not result[15:].any()


def test_hflip_at_p_1_exchanges_left_and_right() -> None:
    pixels = noise_image()
    assert np.array_equal(Pipeline([{"hflip": {"p": 1.0}}])(pixels, [0]), pixels[:, ::-1])


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_entropy_gives_the_same_pixels_and_another_gives_others(name: str) -> None:
    steps = [{name: RANDOM[name]}]
    pixels = noise_image()
    used = Pipeline(steps)
    used(pixels, [9, 9, 9])  # what was drawn before must not matter
    again, fresh = used(pixels, [3, 1, 4]), Pipeline(steps)(pixels, [3, 1, 4])
    assert np.array_equal(again, fresh)
    assert any(not np.array_equal(used(pixels, [3, 1, row]), fresh) for row in range(5, 8))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_leaves_the_pixels_it_was_given_alone(name: str) -> None:
    pixels = noise_image()
    arguments = SIZE if name in [*SIZED, "fit"] else {} if name == "aligned_crop" else {"p": 1.0}
    Pipeline([{name: arguments}])(pixels, [0])
    assert np.array_equal(pixels, noise_image())


@pytest.mark.parametrize("path", TASK_CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_validation_of_every_shipped_config_holds_no_chance(path: Path) -> None:
    steps = yaml.safe_load(path.read_text(encoding="utf-8"))["pixels"]["evaluate"]
    names = [step if isinstance(step, str) else next(iter(step)) for step in steps]
    assert set(names) <= set(STILL)
    pipeline = Pipeline(steps)
    first, *others = (pipeline(noise_image(200, 150), [0, 0, row]).tobytes() for row in range(3))
    assert others == [first, first]
