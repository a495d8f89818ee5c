"""The one place that decodes: an image file of any kind that Pillow reads, to uint8 RGB [H, W, 3]."""

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from data.runtime.errors import InputError, printable

Pixels = npt.NDArray[np.uint8]

# What one image may be, so that decoding it takes less than 500 MB: its bytes, and up to 12.5 bytes a
# pixel (a progressive JPEG), or up to 21 in the formats with a limit of their own.
MAX_BYTES = 100_000_000
MAX_PIXELS = 32_000_000
MAX_PIXELS_OF = {"JPEG2000": 16_000_000, "WEBP": 20_000_000, "AVIF": 20_000_000}
# Only these are tried: others of Pillow's readers run programs (EPS) or have seen too few hostile files.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000", "TGA")
# What shines through a transparent pixel.
BACKGROUND = (255, 255, 255)

# Where an image's pixels as stored lie within the upright array, by EXIF orientation (CIPA DC-008, tag
# 0x0112); 1 is upright.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],
}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BAND = 1_000_000  # pixels converted at once, so that a large image is not in memory three times
LYING = (5, 6, 7, 8)  # the orientations in which width and height change places
# What Pillow's readers raise on bytes that break their format's rules.
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)


def decode(path: Path, least: tuple[int, int] | None = None) -> Pixels:
    """Decode an image file to RGB, [H, W, 3]; see `decode_bytes`."""
    return decode_bytes(read_encoded(path), printable(path), least)


def read_encoded(path: Path) -> bytes:
    """An image file's bytes; InputError for what is no file, is too large or cannot be read."""
    name = printable(path)
    try:
        status = path.stat()
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode) or stat.S_ISSOCK(status.st_mode):
            raise InputError(f"{name}: not a file, expected an image file")  # reading it may never end
        if status.st_size > MAX_BYTES:
            found = f"{status.st_size} bytes, expected at most {MAX_BYTES}"
            raise InputError(f"{name}: {found}; make the image smaller")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason}), expected an image file") from error


def decode_bytes(encoded: bytes, name: str, least: tuple[int, int] | None = None) -> Pixels:
    """Decode an image to RGB, uint8 0..255, [H, W, 3], set upright by its EXIF orientation.

    Grey (1, 8, 16 bit), palette, CMYK and alpha all become RGB: 16 bits are scaled to 8, and transparent
    pixels are laid over `BACKGROUND`. Of a moving image the first frame is taken. Colour profiles are not
    applied.

    `least` (width, height; of the upright image) lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, the
    smallest that is still at least that wide and high, which takes a fraction of the time; an image that
    is smaller already, or no JPEG, comes at its own size.

    Raises `InputError` naming `name` and the reason if the bytes are no image, are cut short, hold pixels
    without a known range, or make more than `MAX_PIXELS` (`MAX_PIXELS_OF` its format).
    """
    if least is not None and min(least) < 1:
        raise ValueError(f"least={least}, expected a width and a height of at least 1")
    if not encoded:
        raise InputError(f"{name}: an empty file, expected an image")
    try:
        # What Pillow warns of is refused below, or harms nobody (tags that break their format's rules).
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), "r", FORMATS) as image:
            most = MAX_PIXELS_OF.get(image.format or "", MAX_PIXELS)
            if image.width * image.height > most:
                raise _too_many_pixels(name, f"{image.width} x {image.height}", most)
            if least is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, least[::-1] if _orientation(image) in LYING else least)
            if image.format == "PNG":
                _check_png(encoded)
            image.load()
            return _upright_pixels(image, _orientation(image))
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name, "more than Pillow opens", MAX_PIXELS) from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name}: not an image of a known format, expected JPEG, PNG or another that Pillow reads"
        ) from error
    except BROKEN as error:
        raise InputError(
            f"{name}: the image cannot be decoded ({error}); replace or remove the file"
        ) from error


def header_of(encoded: bytes) -> tuple[str, str]:
    """Format and mode that an image file says it has, such as ("JPEG", "RGB"); its pixels are not decoded.

    Only for bytes that `decode_bytes` takes.
    """
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), "r", FORMATS) as image:
        return image.format or "unknown", image.mode


def _check_png(encoded: bytes) -> None:
    """Hold a PNG's pixel data against its checksums, which Pillow passes over; ValueError if they differ."""
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(encoded):
        (length,) = struct.unpack_from(">I", encoded, place)
        end = place + 8 + length
        if encoded[place + 4 : place + 8] == b"IDAT":
            told = encoded[end : end + 4]
            if zlib.crc32(memoryview(encoded)[place + 4 : end]).to_bytes(4) != told:
                raise ValueError("checksum of the pixels is wrong" if len(told) == 4 else "cut short")
        place = end + 4


def _upright_pixels(image: Image.Image, orientation: int) -> Pixels:
    """The pixels of a loaded image, RGB and upright, [H, W, 3]."""
    width, height = image.size
    upright = np.empty((width, height, 3) if orientation in LYING else (height, width, 3), dtype=np.uint8)
    stored = STORED[orientation](upright) if orientation in STORED else upright
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        stored[top : top + rows] = np.asarray(_to_rgb(band))
    return upright


def _too_many_pixels(name: str, found: str, most: int) -> InputError:
    """The error for an image too large to decode."""
    return InputError(f"{name}: {found} pixels, expected at most {most}; make the image smaller")


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
    return image if image.mode == "RGB" else image.convert("RGB")


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
