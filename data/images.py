"""The one place that decodes: an image file of any kind that Pillow reads, to uint8 RGB [H, W, 3]."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from data.errors import InputError

# Below Pillow's own limit (89 million, where it warns of a decompression bomb); 240 MB as RGB.
MAX_PIXELS = 80_000_000
# What shines through a transparent pixel.
BACKGROUND = (255, 255, 255)

# How to set a photograph upright, by EXIF orientation (CIPA DC-008, tag 0x0112); 1 is upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)  # the orientations in which width and height change places
# What Pillow's readers raise on bytes that break their format's rules.
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)


def decode(path: Path, least: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image file to RGB, [H, W, 3]; see `decode_bytes`."""
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected an image file") from error
    return decode_bytes(encoded, str(path), least)


def decode_bytes(encoded: bytes, name: str, least: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image to RGB, uint8 0..255, [H, W, 3], set upright by its EXIF orientation.

    Grey (1, 8, 16 bit), palette, CMYK and alpha all become RGB: 16 bits are scaled to 8, and transparent
    pixels are laid over `BACKGROUND`. Of a moving picture the first frame is taken. Colour profiles are not
    applied.

    `least` (width, height; of the upright image) lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, the
    smallest that is still at least that wide and high, which takes a fraction of the time; an image that
    is smaller already, or no JPEG, comes at its own size.

    Raises `InputError` naming `name` and the reason if the bytes are no image, are cut short, hold pixels
    without a known range, or make more than `MAX_PIXELS`.
    """
    if least is not None and min(least) < 1:
        raise ValueError(f"least={least}, expected a width and a height of at least 1")
    if not encoded:
        raise InputError(f"{name}: an empty file, expected an image")
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_many_pixels(name, f"{image.width} x {image.height}")
            if least is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, least[::-1] if _orientation(image) in LYING else least)
            image.load()
            orientation = _orientation(image)
            upright = image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
            return np.array(_to_rgb(upright))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(name, "more than Pillow opens") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name}: not an image of a known format, expected JPEG, PNG or another that Pillow reads"
        ) from error
    except BROKEN as error:
        raise InputError(
            f"{name}: the image cannot be decoded ({error}); replace or remove the file"
        ) from error


def _too_many_pixels(name: str, found: str) -> InputError:
    """The error for an image too large to decode."""
    return InputError(f"{name}: {found} pixels, expected at most {MAX_PIXELS}; make the image smaller")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; 1 (upright) where there is none or the EXIF block is broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except BROKEN:
        # The pixels are sound all the same: many cameras and editors leave EXIF blocks that break the rules.
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB."""
    if image.mode.startswith("I"):
        image = _grey_of_16_bits(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range, expected 8 or 16 bit")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (*BACKGROUND, 255)), over)
    return image.convert("RGB")


def _grey_of_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (Pillow's I;16 and, from some formats, I) as 8 bits: 65535 becomes 255."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"32-bit grey from {grey.min()} to {grey.max()}, expected 0 to 65535")
    # Pillow clips at 255 here. 65535 = 255 * 257, so that this is the exact share, rounded to the nearest.
    scaled = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        scaled.putalpha(Image.fromarray(np.where(grey == transparent, 0, 255).astype(np.uint8)))
    return scaled
