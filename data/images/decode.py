"""The one place that decodes: an image file of any kind that Pillow reads, to uint8 RGB [H, W, 3]."""

import io
import stat
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
from PIL import ExifTags, Image, UnidentifiedImageError, features

from data.runtime.errors import InputError, list_problems, printable, raise_all
from data.runtime.files import write_csv
from data.runtime.processes import parallel_map

Pixels = npt.NDArray[np.uint8]
Read = Callable[[Path], Pixels]

# Limits of one image, so that decoding it takes less than 500 MB: its bytes, and up to 12.5 bytes per pixel (a
# progressive JPEG), or up to 21 in the formats with a limit of their own.
MAX_BYTES = 100_000_000
MAX_PIXELS = 32_000_000
MAX_PIXELS_OF = {"JPEG2000": 16_000_000, "WEBP": 20_000_000, "AVIF": 20_000_000}
TOO_MANY = "pixels, expected at most {}; make the image smaller"
# Others of Pillow's readers run programs (EPS) or are less tested against hostile files.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000", "TGA")
LEFT_OUT = "left_out.csv"
BACKGROUND = (255, 255, 255)  # behind transparent pixels
BAND = 1_000_000  # pixels converted at once, so that a large image is not in memory three times
# EXIF orientations (CIPA DC-008, tag 0x0112) by how the stored pixels lie in the upright image; 1 is upright.
TRANSPOSED, ROWS_FLIPPED, COLUMNS_FLIPPED = (5, 6, 7, 8), (3, 4, 6, 7), (2, 3, 7, 8)
# Errors that Pillow's readers raise on bytes that break their format's rules.
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)


def decode(path: Path, least: tuple[int, int] | None = None) -> Pixels:
    """Decode an image file to RGB, [H, W, 3]; see `decode_bytes`."""
    return decode_bytes(read_encoded(path), printable(path), least)


def read_encoded(path: Path) -> bytes:
    """Read an image file's bytes; `InputError` if it is no file, too large or cannot be read."""
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
    pixels are composited over `BACKGROUND`. Animations give their first frame. Colour profiles are not applied.

    Args:
        encoded: the file's bytes.
        name: of the file, for messages.
        least: width and height of the upright image. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, the
            smallest that is at least that wide and high, which is several times as fast; others at their own.

    Raises:
        InputError: no image, truncated, without a known range of pixel values, or more than `MAX_PIXELS`
            pixels (`MAX_PIXELS_OF` its format).
    """
    if least is not None and min(least) < 1:
        raise ValueError(f"least={least}, expected a width and a height of at least 1")
    if not encoded:
        raise InputError(f"{name}: an empty file, expected an image")
    with _refuse_broken(name), Image.open(io.BytesIO(encoded), "r", FORMATS) as image:
        _check_size(image, name)
        if least is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, least[::-1] if _orientation(image) in TRANSPOSED else least)
        if image.format == "PNG":
            _check_png(encoded)
        return _load_pixels(image)


def convert_image(image: Image.Image, name: str) -> Pixels:
    """Convert a Pillow image to RGB [H, W, 3] as `decode_bytes` does its file, at its own size; errors are the same."""
    with _refuse_broken(name):
        _check_size(image, name)
        return _load_pixels(image)


def check_pixels(pixels: npt.NDArray[np.generic], name: str) -> Pixels:
    """Return pixels that are already uint8 RGB [H, W, 3]; InputError for other arrays, or more than `MAX_PIXELS`."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        found = f"an array {pixels.dtype} {list(pixels.shape)}"
        raise InputError(
            f"{name}: {found}, expected uint8 [height, width, 3] in RGB; for several images, a list of them"
        )
    height, width = pixels.shape[:2]
    if height * width > MAX_PIXELS:
        raise InputError(f"{name}: {width} x {height} {TOO_MANY.format(MAX_PIXELS)}")
    return np.ascontiguousarray(pixels, dtype=np.uint8)


@contextmanager
def _refuse_broken(name: str) -> Iterator[None]:
    """Turn what Pillow's readers raise into `InputError`s.

    What they warn of is refused too, or harmless (tags that break their format's rules).
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: too many {TOO_MANY.format(MAX_PIXELS)}") from error
    except UnidentifiedImageError as error:
        expected = "expected JPEG, PNG or another that Pillow reads"
        raise InputError(f"{name}: not an image of a known format, {expected}") from error
    except BROKEN as error:
        reason = f"the image cannot be decoded ({error})"
        raise InputError(f"{name}: {reason}; replace or remove the file") from error


def _check_size(image: Image.Image, name: str) -> None:
    limit = MAX_PIXELS_OF.get(image.format or "", MAX_PIXELS)
    if image.width * image.height > limit:
        raise InputError(f"{name}: {image.width} x {image.height} {TOO_MANY.format(limit)}")


def _load_pixels(image: Image.Image) -> Pixels:
    image.load()  # sets a TIFF upright and its orientation to 1
    return _upright_pixels(image, _orientation(image))


def decoder_versions() -> list[str | None]:
    """Return the versions of Pillow and of its lossy decoders, on which the pixels depend."""
    return [PIL.__version__, *map(features.version, ("libjpeg_turbo", "jpg", "jpg_2000", "webp", "avif"))]


def header_of(encoded: bytes) -> tuple[str, str]:
    """Read the format and mode of an image that `decode_bytes` accepts, such as ("JPEG", "RGB")."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), "r", FORMATS) as image:
        return image.format or "unknown", image.mode


def find_undecodable(paths: Sequence[str], processes: int | None = None) -> dict[str, str]:
    """Decode images, JPEGs at an eighth of their size; return the error of each one that cannot be decoded."""
    ordered = sorted(set(paths))
    errors = parallel_map(_decode_error, ordered, processes, chunk=64)
    return {path: error for path, error in zip(ordered, errors, strict=True) if error}


def undecodable_message(bad: Mapping[str, str]) -> str:
    """Format the warning about images that are left out of training, a line each."""
    return list_problems(f"{len(bad)} images cannot be decoded and are left out", list(bad.values()))


def select_decodable(paths: Sequence[str], skip: bool, processes: int | None = None) -> list[str]:
    """Return the images that can be decoded; with `skip`, warn of the others on standard error.

    Raises:
        InputError: some cannot be decoded, without `skip`, or none can.
    """
    bad = find_undecodable(paths, processes)
    if bad and (not skip or len(bad) == len(set(paths))):
        raise_all("images cannot be decoded; replace or remove them:", bad.values())
    if bad:
        print(undecodable_message(bad), file=sys.stderr)
    return [path for path in paths if path not in bad]


def write_left_out(folder: Path, bad: Mapping[str, str]) -> None:
    """Write `folder`/left_out.csv (path, reason); remove an earlier run's file if there are none."""
    if bad:
        write_csv(folder / LEFT_OUT, [("path", "reason"), *bad.items()])
    else:
        (folder / LEFT_OUT).unlink(missing_ok=True)


def _decode_error(path: str) -> str:
    try:
        decode(Path(path), least=(1, 1))
    except InputError as error:
        return str(error)
    return ""


def _check_png(encoded: bytes) -> None:
    """Compare a PNG's pixel data with its checksums, which Pillow ignores; ValueError if they differ."""
    place = 8  # after the signature
    while place + 12 <= len(encoded):
        (length,) = struct.unpack_from(">I", encoded, place)
        end = place + 8 + length
        if encoded[place + 4 : place + 8] == b"IDAT":
            checksum = encoded[end : end + 4]
            if zlib.crc32(memoryview(encoded)[place + 4 : end]).to_bytes(4) != checksum:
                raise ValueError("checksum of the pixels is wrong" if len(checksum) == 4 else "cut short")
        place = end + 4


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1..8; 1 (upright) without one, or if the EXIF block is broken, as many are."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except BROKEN:
        return 1


def _upright_pixels(image: Image.Image, orientation: int) -> Pixels:
    """Convert a loaded image to RGB pixels, upright, [H, W, 3]."""
    width, height = image.size
    transposed = orientation in TRANSPOSED
    upright = np.empty((width, height, 3) if transposed else (height, width, 3), dtype=np.uint8)
    stored = upright.transpose(1, 0, 2) if transposed else upright
    stored = stored[:: -1 if orientation in ROWS_FLIPPED else 1, :: -1 if orientation in COLUMNS_FLIPPED else 1]
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        stored[top : top + rows] = np.asarray(_to_rgb(band))
    return upright


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB."""
    if image.mode.startswith("I"):
        image = _scale_16_bits(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range, expected 8 or 16 bit")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (*BACKGROUND, 255)), over)
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_16_bits(image: Image.Image) -> Image.Image:
    """Scale grey of 16 bits (Pillow's I;16 and, from some formats, I) to 8 bits: 65535 becomes 255."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"32-bit grey from {grey.min()} to {grey.max()}, expected 0 to 65535")
    # Rounded exactly, since 65535 = 255 * 257; Pillow clips at 255 here.
    scaled = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        scaled.putalpha(Image.fromarray(np.where(grey == transparent, 0, 255).astype(np.uint8)))
    return scaled
