"""The exported letterbox gives the pixels of the pipeline that the heads were trained with."""

from typing import Any

import numpy as np
import pytest
import torch

from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.export.letterbox import make_scaling

SIZE = {"height": 128, "width": 96}
SIZES = [(256, 192), (384, 288), (512, 384), (300, 200), (1000, 777), (200, 1000), (131, 97), (128, 96), (3, 500)]


@pytest.mark.parametrize(("height", "width"), [*SIZES, (1, 1), (64, 48), (77, 33), (20, 90), (90, 20)])
@pytest.mark.parametrize("crops", [[], ["aligned_crop"], [{"aligned_crop": {"margin": 0.7}}]], ids=str)
def test_images_come_out_as_opencv_makes_them(height: int, width: int, crops: list[Any]) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    steps = [*crops, {"letterbox": SIZE}]
    expected = Pipeline(steps)(image, (0,))
    found = make_scaling(steps, "mask")(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    apart = np.abs(found - expected.astype(np.float32))
    assert apart.max() <= 1
    if (height, width) in SIZES and not (crops and (height, width) in SIZES[-3:-1]):  # their faces are enlarged
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
    crop = ["aligned_crop", {"center_crop": SIZE}]
    for steps in (["hflip"], ["aligned_crop"], crop, [{"letterbox": SIZE}, "hflip"], []):
        with pytest.raises(InputError, match=r"mask: pixels\.evaluate is .*of letterbox, resize, center_crop"):
            make_scaling(steps, "mask")
