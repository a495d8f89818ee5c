"""One decoder: every kind of image to upright RGB, or refused with one line that names file and reason."""

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from data.images.decode import BACKGROUND, MAX_BYTES, MAX_PIXELS, MAX_PIXELS_OF, decode, decode_bytes, find_undecodable
from data.runtime.errors import InputError
from tests.bad_images import BAD, IMAGE, JPEG, NAMES, OTHER, PLACES, SOUND, chunk, png, write_bad, write_sound
from tests.bad_images import encoded as encode

ROOT = Path(__file__).parents[3]
SECONDS = 5.0
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = COLOURS[..., 0]
ALPHA = np.where(np.arange(9) < 4, 0, 255).astype(np.uint8) * np.ones((6, 1), np.uint8)
RGB = Image.fromarray(COLOURS)
PALETTE = RGB.quantize(16)
SMOOTH = np.add.outer(np.arange(160), np.arange(240))[..., None] * np.array([0.5, 0.3, 0.6])
LARGE = Image.fromarray(SMOOTH.astype(np.uint8))


def as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def over_background(rgb: np.ndarray, transparent: np.ndarray) -> np.ndarray:
    return np.where(transparent[..., None], np.array(BACKGROUND, np.uint8), rgb)


def with_chunk(encoded: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with another chunk behind its header."""
    return encoded[:33] + chunk(name, body) + encoded[33:]


BITS = Image.fromarray(GREY > 127)
RGBA = Image.fromarray(np.dstack([COLOURS, ALPHA]))
GREY_ALPHA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
OF_16_BITS = np.array([[0, 128, 129, 256, 257, 32768, 65406, 65407, 65535]], np.uint16)
OPACITIES = bytes(0 if index == 3 else 255 for index in range(16))
PALETTE_RGB, INDEX_3 = np.asarray(PALETTE.convert("RGB")), np.asarray(PALETTE) == 3
PIXEL = (COLOURS[2, 3] == COLOURS).all(axis=2)
MODES = {
    "grey": (encode(Image.fromarray(GREY), "PNG"), as_rgb(GREY)),
    "1 bit": (encode(BITS, "PNG"), as_rgb(np.where(GREY > 127, 255, 0))),
    "alpha": (encode(RGBA, "PNG"), over_background(COLOURS, ALPHA == 0)),
    "grey with alpha": (encode(GREY_ALPHA, "PNG"), over_background(as_rgb(GREY), ALPHA == 0)),
    "palette": (encode(PALETTE, "PNG"), PALETTE_RGB),
    "palette of a GIF": (encode(PALETTE, "GIF"), PALETTE_RGB),
    "transparent index": (encode(PALETTE, "PNG", transparency=3), over_background(PALETTE_RGB, INDEX_3)),
    "opacities": (encode(PALETTE, "PNG", transparency=OPACITIES), over_background(PALETTE_RGB, INDEX_3)),
    "transparent colour": (
        encode(RGB, "PNG", transparency=tuple(COLOURS[2, 3].tolist())),
        over_background(COLOURS, PIXEL),
    ),
    "transparent level of 16 bits": (
        with_chunk(encode(Image.fromarray(OF_16_BITS[:, ::8]), "PNG"), b"tRNS", struct.pack(">H", 65535)),
        np.array([[[0, 0, 0], BACKGROUND]]),
    ),
    "broken EXIF": (with_chunk(encode(RGB, "PNG"), b"eXIf", b"no exif at all"), COLOURS),
    **{kind: (encode(RGB, kind), COLOURS) for kind in ("PNG", "BMP", "TIFF", "PPM", "TGA")},
    "WEBP": (encode(RGB, "WEBP", lossless=True), COLOURS),
    **{
        f"16 bits of a {kind}": (
            encode(Image.fromarray(OF_16_BITS), kind),
            as_rgb(np.array([[0, 0, 1, 1, 1, 128, 254, 255, 255]])),  # round(grey / 65535 * 255)
        )
        for kind in ("PNG", "TIFF", "PPM")
    },
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    encoded, expected = MODES[mode]
    pixels = decode_bytes(encoded, "x")
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, expected)


def test_half_transparent_pixels_are_half_background() -> None:
    expected = np.array([0, 100, 200]) * 128 / 255 + np.array(BACKGROUND) * 127 / 255
    pixels = decode_bytes(encode(Image.new("RGBA", (2, 2), (0, 100, 200, 128)), "PNG"), "x")
    np.testing.assert_allclose(pixels[0, 0], expected, atol=1)


def test_pixels_without_a_known_range_are_refused() -> None:
    for pixels in (np.ones((2, 2), np.float32), np.full((2, 2), 70000, np.int32)):
        with pytest.raises(InputError, match=r"x\.tif: the image cannot be decoded .*expected"):
            decode_bytes(encode(Image.fromarray(pixels), "TIFF"), "x.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})])
def test_exif_orientation_is_pillows(orientation: int, kind: str, options: dict) -> None:
    image = RGB.copy()
    image.getexif()[ExifTags.Base.Orientation] = orientation
    encoded = encode(RGB, kind, exif=image.getexif(), **options)
    np.testing.assert_array_equal(decode_bytes(encoded, "x"), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize(
    ("least", "size"),
    [((240, 160), (240, 160)), ((121, 20), (240, 160)), ((120, 80), (120, 80)), ((31, 20), (60, 40))]
    + [((30, 20), (30, 20)), ((1, 1), (30, 20)), ((500, 500), (240, 160))],
)
def test_least_gives_the_smallest_scale_that_covers(least: tuple[int, int], size: tuple[int, int]) -> None:
    encoded = encode(LARGE, "JPEG", quality=95)
    small = decode_bytes(encoded, "x", least)
    assert (small.shape[1], small.shape[0]) == size
    reduced = Image.fromarray(decode_bytes(encoded, "x")).reduce(240 // size[0])
    np.testing.assert_allclose(small.astype(int), np.asarray(reduced).astype(int), atol=4)


def test_least_refers_to_the_upright_image_and_to_jpegs_alone() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert decode_bytes(encode(LARGE, "JPEG", exif=exif), "x", least=(80, 120)).shape == (120, 80, 3)
    assert decode_bytes(encode(LARGE, "JPEG", exif=exif), "x", least=(81, 120)).shape == (240, 160, 3)
    assert decode_bytes(encode(LARGE, "PNG"), "x", least=(10, 10)).shape == (160, 240, 3)
    with pytest.raises(ValueError, match="at least 1"):
        decode_bytes(encode(LARGE, "JPEG"), "x", least=(0, 10))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("width", [MAX_PIXELS // 1000 + 1, 100_000, 1_000_000])
def test_too_many_pixels_are_refused_with_the_limit(width: int) -> None:
    with pytest.raises(InputError, match=rf"x\.png: .* pixels, expected at most {MAX_PIXELS}"):
        decode_bytes(png(width, 1000), "x.png")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_images_are_refused(kind: str) -> None:
    encoded = encode(LARGE, kind)
    with pytest.raises(InputError, match=r"face\.x: "):
        decode_bytes(encoded[: len(encoded) // 2], "face.x")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bad(tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("kind", [*SOUND, *OTHER])
def test_sound_images_are_decoded(kind: str, sound: dict[str, Path]) -> None:
    expected, tolerance = (OTHER[kind][1], 0) if kind in OTHER else (IMAGE, SOUND[kind][1])
    pixels = decode(sound[kind])
    assert pixels.shape == expected.shape
    assert pixels.dtype == np.uint8
    difference = np.abs(pixels.astype(int) - expected)
    assert difference.max() <= tolerance
    assert difference.mean() <= 8


@pytest.mark.parametrize("kind", [*BAD, *PLACES])
def test_bad_images_are_refused_with_one_line(
    kind: str, bad: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.perf_counter()
    with pytest.raises(InputError) as refused:
        decode(bad[kind])
    assert time.perf_counter() - started < SECONDS
    message = str(refused.value)
    assert message.startswith(f"{bad[kind]}: ")
    assert len(message) > len(f"{bad[kind]}: ") + 10
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []  # nothing in it was run


def test_those_that_cannot_be_decoded_are_found(sound: dict[str, Path], bad: dict[str, Path]) -> None:
    found = find_undecodable([str(path) for path in [*sound.values(), *bad.values()]], processes=2)
    assert found.keys() == {str(path) for path in bad.values()}
    assert all(error.startswith(path) for path, error in found.items())


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_is_a_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES[kind]
    path.write_bytes(JPEG)
    assert decode(path).shape == IMAGE.shape
    path.write_bytes(b"")
    with pytest.raises(InputError) as refused:
        decode(path)
    assert "\n" not in str(refused.value)
    assert kind == "newline" or NAMES[kind] in str(refused.value)


def test_names_with_a_nul_or_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\\x00b\.jpg: cannot be read"):
        decode(tmp_path / "a\0b.jpg")
    with pytest.raises(InputError, match=r"\\udcff\.jpg: cannot be read \(No such file or directory\)"):
        decode(tmp_path / os.fsdecode(b"\xff.jpg"))


PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
from data.images.decode import decode
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
Image.init()
before = peak()
shape = decode(Path(sys.argv[1])).shape
print(shape[0] * shape[1], peak() - before)
"""


def progressive(side: int) -> bytes:
    return encode(Image.new("CMYK", (side, side), (9, 99, 199, 0)), progressive=True, subsampling=0)


def transparent_webp(side: int) -> bytes:
    return encode(Image.new("RGBA", (side, side), (9, 99, 199, 50)), "WEBP", lossless=True, method=0)


def opaque_png(side: int) -> bytes:
    return png(side, side, bytes((3 * side + 1) * side))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("make", "most"), [(opaque_png, MAX_PIXELS), (progressive, MAX_PIXELS), (transparent_webp, MAX_PIXELS_OF["WEBP"])]
)
def test_the_largest_image_takes_less_than_500_mb(make: Callable[[int], bytes], most: int, tmp_path: Path) -> None:
    side = int(most**0.5)
    (tmp_path / "large.jpg").write_bytes(make(side))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "large.jpg")]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pixels, memory = map(int, output.split())
    assert pixels == side * side
    assert memory + MAX_BYTES < 500_000_000
