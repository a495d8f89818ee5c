"""Pipelines of the steps that a YAML lists: `[hflip, {resize: {height: 128, width: 96}}]`.

What a pipeline does to an image depends only on the seed sequence that it is called with.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from data.transforms.face_geometry import smallest_region
from data.transforms.mask_overlay import Pixels
from data.transforms.ops import STEPS, AlignedCrop, Augmentation
from data.transforms.registry import BuiltOp, Step, build_ops

SCALING = ("resize", "fit", "letterbox")  # steps with an output size that does not depend on the input's
CROPPING = ("center_crop", "random_crop", "zoom_crop")  # steps that crop some of the image's own pixels
SIZING = ("resize", "letterbox", *CROPPING)  # steps after which all images have one size
FIXED = (*SCALING, "center_crop", "aligned_crop")  # steps without random numbers
FIXED_IF_SURE = ("hflip", "grey")  # steps in which only `p` decides
MULTIPLE = 64  # sides of cached images that are cropped later are multiples, as those of most images are


class Pipeline:
    """Steps in order, names or {name: arguments} of `STEPS`, each with a random generator of its own.

    Attributes:
        least: width and height from which on an image is only scaled down, so that it may be decoded at a
            fraction of its size, but not below this. None where steps use its own pixels before one scales it.

    Raises:
        ValueError: unknown steps or wrong arguments; the message lists all.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        ops = build_ops(steps, STEPS)
        results = [op.result for op in ops]
        # Built here, not at the first image, so that loader workers inherit the import of albumentations.
        self.steps: list[Any] = [each.build() if isinstance(each, Augmentation) else each for each in results]
        self.least: tuple[int, int] | None = None
        # Only an aligned crop may come before the scaling: what other steps do depends on the image's size.
        crops = [op for op in ops[:1] if isinstance(op.result, AlignedCrop)]
        if len(ops) > len(crops) and ops[len(crops)].name in SCALING:
            height, width = _size_before(crops, ops[len(crops)])
            self.least = (width, height)

    def __call__(self, pixels: Pixels, seed_sequence: Sequence[int]) -> Pixels:
        """Transform the pixels; the same pixels and `seed_sequence` (numbers >= 0) give the same result.

        Each step gets its own seed: with one for all, steps with the same `p` would act on the same images.
        """
        seeds = np.random.SeedSequence(list(seed_sequence)).generate_state(len(self.steps))
        for step, seed in zip(self.steps, seeds, strict=True):
            step.set_random_seed(int(seed))
            pixels = step(image=pixels)["image"]
        return pixels


def has_one_size(steps: Sequence[Step]) -> bool:
    """Whether images of all sizes have one size after the steps; raises ValueError as `Pipeline` does.

    >>> box = {"height": 8, "width": 6}
    >>> has_one_size([{"resize": box}, "aligned_crop"]), has_one_size(["aligned_crop", {"fit": box}])
    (True, False)
    """
    return any(op.name in SIZING for op in build_ops(steps, STEPS))


def random_steps(steps: Sequence[Step]) -> list[str]:
    """Return the names of the steps whose result depends on random numbers.

    >>> random_steps(["hflip", {"grey": {"p": 1.0}}, {"noise": {"p": 1.0}}, {"resize": {"height": 8, "width": 6}}])
    ['hflip', 'noise']
    """
    ops = [op for op in build_ops(steps, STEPS) if op.name not in FIXED]
    return [op.name for op in ops if op.name not in FIXED_IF_SURE or op.arguments.get("p") not in (0, 1)]


def least_size(pipelines: Iterable[Pipeline]) -> tuple[int, int] | None:
    """Return the width and height that `decode` must leave for all of the pipelines; None: the whole image.

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
    """Return the height and width of cached copies that all pipelines can use instead of the images, or None.

    All have to letterbox to one size; an aligned crop before it needs larger copies, by as much as it removes.
    None, too, where one of them crops by pixels before: smaller copies would lose more by it.

    >>> box, crop = {"letterbox": {"height": 8, "width": 6}}, {"center_crop": {"height": 4, "width": 3}}
    >>> working_size(["hflip", box], [box, crop]), working_size([crop, box], [box])
    ((8, 6), None)
    """
    sizes = {_size_before_letterbox(steps) for steps in pipelines}
    return sizes.pop() if len(sizes) == 1 else None


def _size_before_letterbox(steps: Sequence[Step]) -> tuple[int, int] | None:
    ops = build_ops(steps, STEPS)
    names = [op.name for op in ops]
    if "letterbox" not in names:
        return None
    first = names.index("letterbox")
    if not set(names[:first]).isdisjoint(CROPPING):
        return None
    crops = [op for op in ops[:first] if isinstance(op.result, AlignedCrop)]
    height, width = _size_before(crops, ops[first])
    if crops:
        height, width = (math.ceil(side / MULTIPLE) * MULTIPLE for side in (height, width))
    return height, width


def _size_before(crops: Sequence[BuiltOp], scaling: BuiltOp) -> tuple[int, int]:
    """Height and width of an image of any shape that has the size of the scaling step left after the crops."""
    height, width = scaling.arguments["height"], scaling.arguments["width"]
    for crop in crops:
        share = smallest_region(crop.result.margin)
        height, width = math.ceil(height / share[0]), math.ceil(width / share[1])
    return height, width
