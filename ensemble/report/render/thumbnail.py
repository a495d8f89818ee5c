"""Images small enough to be embedded in an HTML page, and maps over them."""

import base64
import io

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from data.images.decode import Pixels

RED, OPACITY = (255, 0, 60), 0.6


def thumbnail(pixels: Pixels, alternative: str, height: int = 96) -> Markup:
    """Make an <img> of pixels [H, W, 3], at most `height` pixels high and embedded."""
    image = Image.fromarray(pixels)
    image.thumbnail((4 * height, height))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=80)
    source = "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
    return Markup('<img src="{}" alt="{}" width="{}" height="{}">').format(source, alternative, *image.size)


def overlay(pixels: Pixels, activation: npt.NDArray[np.floating]) -> Pixels:
    """Lay a map [h, w] over pixels [H, W, 3]: red where it is highest, nothing where it is 0 or less."""
    share = np.maximum(activation, 0) / max(float(activation.max()), np.finfo(np.float32).tiny)
    image = Image.fromarray(pixels)
    mask = Image.fromarray((255 * OPACITY * share).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    return np.asarray(Image.composite(Image.new("RGB", image.size, RED), image, mask))
