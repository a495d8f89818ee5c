"""The exported letterbox gives the pixels of the pipeline that the heads were trained with."""

import numpy as np
import pytest
import torch

from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.export.letterbox import Letterbox, make_letterbox, make_scaling

SIZE = {"height": 128, "width": 96}
SIZES = [(256, 192), (384, 288), (512, 384), (300, 200), (1000, 777), (200, 1000), (131, 97), (128, 96), (3, 500)]


@pytest.mark.parametrize(("height", "width"), [*SIZES, (1, 1), (64, 48), (77, 33), (20, 90), (90, 20)])
def test_images_come_out_as_opencv_makes_them(height: int, width: int) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = Pipeline([{"letterbox": SIZE}])(image, (0,))
    found = Letterbox(**SIZE)(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    apart = np.abs(found - expected.astype(np.float32))
    assert apart.max() <= 1
    if (height, width) in SIZES:
        assert (apart > 0).mean() < 2e-4  # averages within rounding of a half


@pytest.mark.parametrize("height", [30, 64, 127, 128, 129, 256, 301])
@pytest.mark.parametrize("width", [50, 95, 96, 192, 333])
@pytest.mark.parametrize("step", ["resize", "center_crop"])
def test_other_steps_give_their_pixels_too(step: str, height: int, width: int) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = Pipeline([{step: SIZE}])(image, (0,))
    found = make_scaling([{step: SIZE}], "mask")(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    apart = np.abs(found - expected.astype(np.float32))
    assert apart.max() <= (step == "resize")
    if height >= SIZE["height"] and width >= SIZE["width"]:
        assert (apart > 0).mean() < 1e-3  # averages within rounding of a half


def test_other_pipelines_are_refused() -> None:
    for steps in (["hflip"], ["aligned_crop"], [{"letterbox": SIZE}, "hflip"], [{"aligned_crop": {"margin": 1.0}}], []):
        with pytest.raises(InputError, match=r"mask: pixels\.evaluate is .*of letterbox, resize, center_crop"):
            make_scaling(steps, "mask")
    assert make_letterbox([{"letterbox": SIZE}], "mask").width == 96
    with pytest.raises(InputError, match="expected one letterbox"):
        make_letterbox([{"resize": SIZE}], "mask")
