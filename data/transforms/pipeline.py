"""Named steps in order, as a YAML lists them: `[hflip, {resize: {height: 128, width: 96}}]`.

What a pipeline does to an image depends on the entropy it is handed and on nothing else.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data.transforms.face_geometry import smallest_region
from data.transforms.ops import STEPS, AlignedCrop, Pixels, Transform
from data.transforms.registry import Step, build_ops

# The steps that scale whatever they are given to a size of their own.
SCALING = ("resize", "fit", "letterbox")
CUTTING = ("center_crop", "random_crop")  # so many of the image's own pixels
COPIES = 64  # kept copies of what is cropped have sides of whole multiples, as most images do


class Pipeline:
    """Steps in order, each drawing from a generator of its own.

    Args:
        steps: names, or {name: arguments}, from `STEPS`.

    Attributes:
        least: width and height from which on an image is scaled down, so that one decoded at a fraction of
            its size, but not below this, still has every pixel that the steps can show; None where they look
            at the image's own pixels before any step scales it.

    Raises:
        ValueError: an unknown step or wrong arguments; all are told at once.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        called = build_ops(steps, STEPS)
        self.steps: list[Transform] = [step.result for step in called]
        self.least: tuple[int, int] | None = None
        # Of the first steps, an aligned crop and a scaling alone: what a step before them (noise, jpeg, a crop)
        # does depends on the size.
        crops = [step.result for step in called[:1] if isinstance(step.result, AlignedCrop)]
        for step in called[len(crops) : len(crops) + 1]:
            if step.name in SCALING:
                height, width = _needed(step.arguments, crops)
                self.least = (width, height)

    def __call__(self, pixels: Pixels, entropy: Sequence[int]) -> Pixels:
        """Return the transformed pixels; the same pixels and entropy (numbers >= 0) give the same result.

        Steps are seeded apart: with one seed for all, every step with the same `p` would act on the same
        images.
        """
        seeds = np.random.SeedSequence(list(entropy)).generate_state(len(self.steps))
        for step, seed in zip(self.steps, seeds, strict=True):
            step.set_random_seed(int(seed))
            pixels = step(image=pixels)["image"]
        return pixels


def least_size(pipelines: Iterable[Pipeline]) -> tuple[int, int] | None:
    """Width and height that `decode` must leave for all of the pipelines; None: images come whole.

    >>> letterboxes = [Pipeline([{"letterbox": {"height": 160, "width": side}}]) for side in (120, 128)]
    >>> least_size(letterboxes)
    (128, 160)
    >>> least_size([*letterboxes, Pipeline([{"center_crop": {"height": 8, "width": 8}}])]) is None
    True
    """
    sizes = [pipeline.least for pipeline in pipelines]
    known = [size for size in sizes if size is not None]
    if not known or len(known) < len(sizes):
        return None
    return max(width for width, _ in known), max(height for _, height in known)


def working_size(*pipelines: Sequence[Step]) -> tuple[int, int] | None:
    """Height and width of copies that all of the pipelines can take for the images, or None.

    They have to letterbox to one size; a crop to the aligned face before it needs larger copies, by as much as
    it leaves out. None, too, where one of them cuts by pixels before: a smaller copy would lose more by it.

    >>> box, crop = {"letterbox": {"height": 8, "width": 6}}, {"center_crop": {"height": 4, "width": 3}}
    >>> working_size(["hflip", box], [box, crop]), working_size([crop, box], [box])
    ((8, 6), None)
    """
    sizes = {_letterboxed(steps) for steps in pipelines}
    return sizes.pop() if len(sizes) == 1 else None


def _letterboxed(steps: Sequence[Step]) -> tuple[int, int] | None:
    """Height and width that an image needs before the first letterbox; None without one or after a cut."""
    crops: list[AlignedCrop] = []
    for step in build_ops(steps, STEPS):
        if step.name in CUTTING:
            return None
        if isinstance(step.result, AlignedCrop):
            crops.append(step.result)
        if step.name == "letterbox":
            height, width = _needed(step.arguments, crops)
            if crops:
                height, width = (math.ceil(side / COPIES) * COPIES for side in (height, width))
            return height, width
    return None


def _needed(size: Mapping[str, int], crops: Sequence[AlignedCrop]) -> tuple[int, int]:
    """Height and width of an image that has `size` left after the crops, whatever its shape."""
    height, width = size["height"], size["width"]
    for crop in crops:
        share = smallest_region(crop.margin)
        height, width = math.ceil(height / share[0]), math.ceil(width / share[1])
    return height, width
