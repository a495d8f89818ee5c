"""The steps of a YAML's pipelines, on uint8 RGB pixels [H, W, 3]; the one file that imports albumentations.

It does so only for random steps: it takes a second, and predictions need none of them.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias

import cv2
import numpy as np
from pydantic import Field

from data.transforms.face_geometry import aligned_face, face_region
from data.transforms.mask_overlay import Pixels, choose_way, draw_mask

Transform: TypeAlias = "FixedStep | AlignedCrop | DrawnMask | Augmentation"
Size = Annotated[int, Field(ge=1, le=4096)]
Share = Annotated[float, Field(ge=0, le=1)]

cv2.setNumThreads(0)  # loader workers are the parallelism; OpenCV's own threads would fight them


@dataclass
class FixedStep:
    """A step without random numbers."""

    change: Callable[[Pixels], Pixels]

    def set_random_seed(self, seed: int) -> None:
        """Do nothing: the step is not random."""

    def __call__(self, image: Pixels) -> dict[str, Pixels]:
        return {"image": self.change(image)}


@dataclass(frozen=True)
class Augmentation:
    """A random step of albumentations, described by its class and arguments there."""

    name: str
    arguments: Mapping[str, Any]

    def build(self) -> Any:
        """Import albumentations and make the step."""
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import looks for a newer release online
        import albumentations

        return getattr(albumentations, self.name)(**self.arguments)


@dataclass
class DrawnMask:
    """Draw a mask on an aligned bare face; has to come before any step that moves the face."""

    wrong: float
    p: float

    def set_random_seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, image: Pixels) -> dict[str, Pixels]:
        if self.rng.random() >= self.p:
            return {"image": image}
        way = choose_way(self.rng.random() < self.wrong, self.rng)
        return {"image": draw_mask(image, aligned_face(*image.shape[:2]), way, self.rng)}


@dataclass
class AlignedCrop:
    """Crop an aligned face with hair and chin; has to come before any step that moves the face."""

    margin: float

    def set_random_seed(self, seed: int) -> None:
        """Do nothing: the crop is not random."""

    def __call__(self, image: Pixels) -> dict[str, Pixels]:
        height, width = image.shape[:2]
        return {"image": image[face_region(height, width, self.margin)]}


def resize_pixels(pixels: Pixels, height: int, width: int) -> Pixels:
    """Scale to height x width pixels, by area where a side shrinks, else linearly."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    kernel = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=kernel)  # type: ignore[return-value]


def fit_pixels(pixels: Pixels, height: int, width: int) -> Pixels:
    """Scale to fit within height x width, by area where that shrinks, else linearly; no side is below 1."""
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    return resize_pixels(pixels, *(max(1, round(side * scale)) for side in pixels.shape[:2]))


def pad_pixels(pixels: Pixels, height: int, width: int) -> Pixels:
    """Pad to at least height x width with black on both sides; the odd pixel is on the right and at the bottom."""
    down, across = max(height - pixels.shape[0], 0), max(width - pixels.shape[1], 0)
    if not (down or across):
        return pixels
    top, left = down // 2, across // 2
    sides = (top, down - top, left, across - left)
    return cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_CONSTANT)  # type: ignore[return-value]


def letterbox_pixels(pixels: Pixels, height: int, width: int) -> Pixels:
    """Scale as `fit_pixels` and pad as `pad_pixels` do."""
    return pad_pixels(fit_pixels(pixels, height, width), height, width)


def crop_center(pixels: Pixels, height: int, width: int) -> Pixels:
    """Crop height x width from the middle, padded as `pad_pixels` does."""
    padded = pad_pixels(pixels, height, width)
    top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
    return padded[top : top + height, left : left + width]


def resize(height: Size, width: Size) -> Transform:
    """Scale to height x width pixels, by area where that shrinks."""
    return FixedStep(partial(resize_pixels, height=height, width=width))


def fit(height: Size, width: Size) -> Transform:
    """Scale to fit within height x width, by area where that shrinks; keep the aspect ratio."""
    return FixedStep(partial(fit_pixels, height=height, width=width))


def letterbox(height: Size, width: Size) -> Transform:
    """Scale to fit within height x width, as `fit` does; pad the rest with black on both sides."""
    return FixedStep(partial(letterbox_pixels, height=height, width=width))


def center_crop(height: Size, width: Size) -> Transform:
    """Crop height x width from the middle at the original scale; pad smaller images with black."""
    return FixedStep(partial(crop_center, height=height, width=width))


def aligned_crop(margin: Annotated[float, Field(gt=0)] = 1.0) -> Transform:
    """Crop an aligned face with its hair and chin; `margin` scales the space around it.

    Faces then have about the same size in images with hair and shoulders (taller than wide) as in images
    cropped close to the face (square ones, which stay nearly whole).
    """
    return AlignedCrop(margin)


def random_crop(height: Size, width: Size) -> Transform:
    """Crop height x width at a random position at the original scale; pad smaller images with black."""
    return Augmentation("RandomCrop", {"height": height, "width": width, "pad_if_needed": True})


def zoom_crop(
    height: Size,
    width: Size,
    least: Annotated[float, Field(gt=0, le=1)] = 0.8,
    stretch: Annotated[float, Field(ge=1)] = 1.1,
) -> Transform:
    """Crop a window of `least` to all of the area, stretched up to `stretch`; scale it to height x width."""
    ratio = (width / height / stretch, width / height * stretch)
    arguments = {"size": (height, width), "scale": (least, 1.0), "ratio": ratio, "area_for_downscale": "image"}
    return Augmentation("RandomResizedCrop", arguments)


def hflip(p: Share = 0.5) -> Transform:
    """Mirror left and right."""
    return Augmentation("HorizontalFlip", {"p": p})


def brightness_contrast(brightness: Share = 0.2, contrast: Share = 0.2, p: Share = 0.5) -> Transform:
    """Shift brightness and scale contrast by up to these shares."""
    arguments = {"brightness_limit": brightness, "contrast_limit": contrast, "p": p}
    return Augmentation("RandomBrightnessContrast", arguments)


def colour(hue: Annotated[float, Field(ge=0, le=0.5)] = 0.05, saturation: Share = 0.3, p: Share = 0.5) -> Transform:
    """Rotate the hue by up to `hue` of the circle and scale saturation by up to `saturation`."""
    ranges = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1 - saturation, 1 + saturation)}
    return Augmentation("ColorJitter", {**ranges, "hue": (-hue, hue), "p": p})


def grey(p: Share = 0.1) -> Transform:
    """Convert to grey levels."""
    return Augmentation("ToGray", {"p": p})


def noise(std: Share = 0.05, p: Share = 0.5) -> Transform:
    """Add Gaussian noise with a standard deviation of up to `std` of the full range."""
    return Augmentation("GaussNoise", {"std_range": (0.0, std), "p": p})


def affine(
    shift: Share = 0.05, scale: Share = 0.1, rotate: Annotated[float, Field(ge=0, le=180)] = 10, p: Share = 0.5
) -> Transform:
    """Shift by up to `shift` of the size, zoom by up to `scale`, rotate by up to `rotate` degrees."""
    ranges = {"scale": (1 - scale, 1 + scale), "translate_percent": (-shift, shift), "rotate": (-rotate, rotate)}
    return Augmentation("Affine", {**ranges, "balanced_scale": False, "p": p})


def cutout(holes: Annotated[int, Field(ge=1)] = 1, size: Share = 0.3, p: Share = 0.5) -> Transform:
    """Blank up to `holes` rectangles, each side up to `size` of the image's (arXiv:1708.04552)."""
    sides = (min(0.05, size), size)
    ranges = {"num_holes_range": (1, holes), "hole_height_range": sides, "hole_width_range": sides}
    return Augmentation("CoarseDropout", {**ranges, "p": p})


def jpeg(quality: Annotated[int, Field(ge=1, le=100)] = 40, p: Share = 0.5) -> Transform:
    """Compress as JPEG at a quality from `quality` to 95."""
    return Augmentation("ImageCompression", {"quality_range": (min(quality, 95), 95), "p": p})


def downscale(least: Annotated[float, Field(gt=0, lt=1)] = 0.4, p: Share = 0.3) -> Transform:
    """Reduce the resolution: scale down to between `least` and 0.95 of the size and up again."""
    kernels = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}
    arguments = {"scale_range": (min(least, 0.95), 0.95), "interpolation_pair": kernels, "p": p}
    return Augmentation("Downscale", arguments)


def blur(sigma: Annotated[float, Field(gt=0)] = 1.5, p: Share = 0.2) -> Transform:
    """Blur by a Gaussian of up to `sigma` pixels."""
    return Augmentation("GaussianBlur", {"blur_limit": 0, "sigma_limit": (0.1, max(sigma, 0.1)), "p": p})


def drawn_mask(wrong: Share = 0.2, p: Share = 0.7) -> Transform:
    """Draw a mask on an aligned bare face, `wrong` of them incorrectly worn; for labels other than the mask."""
    return DrawnMask(wrong, p)


STEPS: dict[str, Callable[..., Transform]] = {
    op.__name__: op
    for op in (
        *(resize, fit, letterbox, center_crop, aligned_crop, random_crop, zoom_crop, hflip, brightness_contrast),
        *(colour, grey, noise, affine, cutout, jpeg, downscale, blur, drawn_mask),
    )
}
