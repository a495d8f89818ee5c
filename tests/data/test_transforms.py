"""Every step keeps uint8 RGB, gives the size that it promises, and depends on its entropy alone."""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.images import decode_bytes
from data.transforms import STEPS, Pipeline, least_size

SIZE = {"height": 24, "width": 16}
SIZED = ["resize", "letterbox", "center_crop", "random_crop", "zoom_crop"]
STILL = ["resize", "letterbox", "center_crop", "aligned_crop"]
OF_ANY_SIZE = {"fit", "aligned_crop"}  # what they give depends on the picture's shape: no size is promised
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
ROOT = Path(__file__).parents[2]
TASK_CONFIGS = [
    path
    for path in sorted((ROOT / "configs").rglob("*.yaml"))
    if "task" in yaml.safe_load(path.read_text(encoding="utf-8"))
]


def noise_picture(height: int = 40, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(STEPS.keys() - OF_ANY_SIZE))
@pytest.mark.parametrize("shape", [(40, 32), (32, 40), (17, 9), (64, 64)])
def test_a_step_keeps_uint8_rgb_and_gives_the_size_it_promises(name: str, shape: tuple[int, int]) -> None:
    step = {name: SIZE} if name in SIZED else name
    for draw in range(5):
        result = Pipeline([step])(noise_picture(*shape), [0, 0, draw])
        assert result.dtype == np.uint8
        assert result.shape == ((24, 16, 3) if name in SIZED else (*shape, 3))


FROM_ONE, FROM_EIGHT = st.integers(1, 70), st.integers(8, 70)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["resize", "letterbox", "center_crop", "random_crop"]), *[FROM_ONE] * 4)
def test_sized_steps_take_any_picture_to_any_size(
    name: str, height: int, width: int, to_height: int, to_width: int
) -> None:
    pipeline = Pipeline([{name: {"height": to_height, "width": to_width}}])
    assert pipeline(noise_picture(height, width), [1]).shape == (to_height, to_width, 3)


@settings(max_examples=40, deadline=None)
@given(*[FROM_EIGHT] * 4, st.integers(0, 99))
def test_zoom_crop_takes_any_picture_to_any_size(
    height: int, width: int, to_height: int, to_width: int, row: int
) -> None:
    pipeline = Pipeline([{"zoom_crop": {"height": to_height, "width": to_width, "least": 0.1}}])
    assert pipeline(noise_picture(height, width), [row]).shape == (to_height, to_width, 3)


@given(*[FROM_ONE] * 4)
@settings(max_examples=40, deadline=None)
def test_a_fitted_picture_touches_its_box_and_is_letterboxed_without_another_scaling(
    height: int, width: int, to_height: int, to_width: int
) -> None:
    box = {"height": to_height, "width": to_width}
    picture = noise_picture(height, width)
    fitted = Pipeline([{"fit": box}])(picture, [1])
    assert fitted.shape[0] == to_height or fitted.shape[1] == to_width
    assert fitted.shape[0] <= to_height
    assert fitted.shape[1] <= to_width
    letterbox = Pipeline([{"letterbox": box}])
    assert np.array_equal(letterbox(fitted, [1]), letterbox(picture, [1]))


def test_letterbox_of_a_hairline_picture_still_has_its_size() -> None:
    pipeline = Pipeline([{"letterbox": SIZE}])
    assert pipeline(noise_picture(2, 900), [0]).shape == (24, 16, 3)
    assert pipeline(noise_picture(900, 2), [0]).shape == (24, 16, 3)


def test_resize_that_shrinks_by_a_whole_factor_is_pillows_box_filter() -> None:
    pixels = noise_picture(48, 32)
    ours = Pipeline([{"resize": SIZE}])(pixels, [0])
    theirs = np.asarray(Image.fromarray(pixels).resize((16, 24), Image.Resampling.BOX))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_center_crop_is_a_slice_and_pads_with_black() -> None:
    pixels = noise_picture(40, 32)
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
    pixels = noise_picture()
    assert np.array_equal(Pipeline([{"hflip": {"p": 1.0}}])(pixels, [0]), pixels[:, ::-1])


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_entropy_gives_the_same_pixels_and_another_gives_others(name: str) -> None:
    steps = [{name: RANDOM[name]}]
    pixels = noise_picture()
    used = Pipeline(steps)
    used(pixels, [9, 9, 9])  # what was drawn before must not matter
    again, fresh = used(pixels, [3, 1, 4]), Pipeline(steps)(pixels, [3, 1, 4])
    assert np.array_equal(again, fresh)
    assert any(not np.array_equal(used(pixels, [3, 1, row]), fresh) for row in range(5, 8))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_leaves_the_pixels_it_was_given_alone(name: str) -> None:
    pixels = noise_picture()
    arguments = SIZE if name in [*SIZED, "fit"] else {} if name == "aligned_crop" else {"p": 1.0}
    Pipeline([{name: arguments}])(pixels, [0])
    assert np.array_equal(pixels, noise_picture())


def test_each_part_of_the_entropy_counts() -> None:
    pipeline = Pipeline([{"noise": {"std": 0.2, "p": 1.0}}])
    results = [pipeline(noise_picture(), entropy).tobytes() for entropy in ([0, 0, 1], [0, 1, 0], [1, 0, 0])]
    assert len(set(results)) == 3


def test_steps_of_the_same_probability_act_apart() -> None:
    # The first half tells whether the flip acted; grey or coloured tells of the other step.
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[:, :2, 0] = 200
    pipeline = Pipeline([{"hflip": {"p": 0.5}}, {"grey": {"p": 0.5}}])
    results = [pipeline(pixels, [0, 0, row]) for row in range(800)]
    flipped = np.array([not result[0, 0].any() for result in results])
    grey = np.array([len(set(result.max(axis=(0, 1)).tolist())) == 1 for result in results])
    assert abs(flipped.mean() - 0.5) < 0.07
    assert abs(grey.mean() - 0.5) < 0.07
    assert abs(np.corrcoef(flipped, grey)[0, 1]) < 0.12  # 3.4 standard errors


def test_all_wrong_steps_are_told_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"step 1: 'hflop' is unknown.*step 3 .noise.: std: Input should be less"
    ):
        Pipeline(["hflop", "hflip", {"noise": {"std": 7.0}}])


def test_no_steps_leave_the_picture_as_it_is() -> None:
    assert np.array_equal(Pipeline([])(noise_picture(), [0]), noise_picture())


@pytest.mark.parametrize("path", TASK_CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_validation_of_every_shipped_config_holds_no_chance(path: Path) -> None:
    steps = yaml.safe_load(path.read_text(encoding="utf-8"))["pixels"]["evaluate"]
    names = [step if isinstance(step, str) else next(iter(step)) for step in steps]
    assert set(names) <= set(STILL)
    pipeline = Pipeline(steps)
    first, *others = (pipeline(noise_picture(200, 150), [0, 0, row]).tobytes() for row in range(3))
    assert others == [first, first]


WORKING = {"height": 40, "width": 30}


def jpeg_of(height: int, width: int) -> bytes:
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = np.stack([rows, columns, (np.sin(9 * rows) + np.cos(7 * columns)) / 4 + 0.5], axis=2)
    buffer = io.BytesIO()
    Image.fromarray((waves * 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@settings(max_examples=40)
@given(st.sampled_from(["letterbox", "resize", "fit"]), st.integers(8, 400), st.integers(8, 400))
def test_a_jpeg_decoded_at_the_least_size_is_shown_as_the_whole_one_is(
    step: str, height: int, width: int
) -> None:
    pipeline, encoded = Pipeline([{step: WORKING}]), jpeg_of(height, width)
    whole, scaled = (decode_bytes(encoded, "x", least) for least in (None, pipeline.least))
    assert scaled.shape[0] >= min(height, 40)
    assert scaled.shape[1] >= min(width, 30)
    if height < 2 * 40 or width < 2 * 30:
        np.testing.assert_array_equal(whole, scaled)  # no scale below the whole one covers it
    of_whole, of_scaled = pipeline(whole, (0,)), pipeline(scaled, (0,))
    if of_whole.shape == of_scaled.shape:
        far = np.abs(of_whole.astype(int) - of_scaled)
        if height % scaled.shape[0] == 0 and width % scaled.shape[1] == 0:
            assert np.quantile(far, 0.9) <= 6
        assert np.quantile(far, 0.8) <= 12  # of a rounded side the edges of a letterbox may lie a pixel off
    else:  # a side that no scale divides, rounded
        assert step == "fit"
        assert max(abs(a - b) for a, b in zip(of_whole.shape, of_scaled.shape, strict=True)) == 1


@pytest.mark.parametrize("first", sorted(STEPS.keys() - {"letterbox", "resize", "fit", "aligned_crop"}))
def test_photographs_come_whole_where_another_step_sees_them_first(first: str) -> None:
    step = {first: {"height": 90, "width": 90}} if first in SIZED else first
    assert Pipeline([step, {"letterbox": WORKING}]).least is None
    assert least_size([Pipeline([{"letterbox": WORKING}]), Pipeline([step])]) is None
    assert Pipeline([{"letterbox": WORKING}, step]).least == (30, 40)


@settings(max_examples=40)
@given(st.integers(8, 400), st.floats(0.9, 1.5), st.sampled_from([0.8, 1.0, 1.3]))
def test_an_aligned_face_is_cut_alike_from_a_jpeg_decoded_at_the_least_size(
    width: int, tall: float, margin: float
) -> None:
    pipeline = Pipeline([{"aligned_crop": {"margin": margin}}, {"letterbox": WORKING}])
    height = round(tall * width)
    # So near to the shape that tells tall portraits from square ones, a rounded side decides.
    assume(abs(height / width - 1.15) > 2 / width)
    encoded = jpeg_of(height, width)
    whole, scaled = (decode_bytes(encoded, "x", least) for least in (None, pipeline.least))
    cut_whole, cut_scaled = (Pipeline([{"aligned_crop": {"margin": margin}}])(x, (0,)) for x in (whole, scaled))
    if len(scaled) < len(whole):
        assert cut_scaled.shape[0] >= 40 or cut_scaled.shape[1] >= 30  # nothing is scaled up that need not be
    far = np.abs(pipeline(whole, (0,)).astype(int) - pipeline(scaled, (0,)))
    assert np.quantile(far, 0.8) <= 24, (cut_whole.shape, cut_scaled.shape)


def test_a_jpeg_is_decoded_smaller_before_an_aligned_crop_too() -> None:
    least = Pipeline(["aligned_crop", {"letterbox": WORKING}]).least
    assert decode_bytes(jpeg_of(512, 384), "x", least).shape == (64, 48, 3)


def test_nothing_is_known_of_no_pipeline_or_an_empty_one() -> None:
    assert least_size([]) is None
    assert least_size([Pipeline([])]) is None
