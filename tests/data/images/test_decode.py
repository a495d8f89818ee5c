"""One decoder: every kind of image to upright RGB, or refused with one line that names file and reason."""

import os
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
COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
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


RGBA = Image.fromarray(np.dstack([COLOURS, ALPHA]))
GREY_ALPHA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
OF_16_BITS = np.array([[0, 128, 129, 256, 257, 32768, 65406, 65407, 65535]], np.uint16)
ENDS = encode(Image.fromarray(OF_16_BITS[:, ::8]), "PNG")
OPACITIES = bytes(0 if index == 3 else 255 for index in range(16))
PALETTE_RGB, INDEX_3 = np.asarray(PALETTE.convert("RGB")), np.asarray(PALETTE) == 3
PIXEL = COLOURS[2, 3].tolist()
SAME_COLOUR = (COLOURS == PIXEL).all(axis=2)
MODES = {
    "grey": (encode(Image.fromarray(GREY), "PNG"), as_rgb(GREY)),
    "alpha": (encode(RGBA, "PNG"), over_background(COLOURS, ALPHA == 0)),
    "grey with alpha": (encode(GREY_ALPHA, "PNG"), over_background(as_rgb(GREY), ALPHA == 0)),
    "palette": (encode(PALETTE, "PNG"), PALETTE_RGB),
    "palette of a GIF": (encode(PALETTE, "GIF"), PALETTE_RGB),
    "transparent index": (encode(PALETTE, "PNG", transparency=3), over_background(PALETTE_RGB, INDEX_3)),
    "opacities": (encode(PALETTE, "PNG", transparency=OPACITIES), over_background(PALETTE_RGB, INDEX_3)),
    "transparent colour": (encode(RGB, "PNG", transparency=tuple(PIXEL)), over_background(COLOURS, SAME_COLOUR)),
    "transparent level of 16 bits": (with_chunk(ENDS, b"tRNS", b"\xff\xff"), np.array([[[0, 0, 0], BACKGROUND]])),
    "broken EXIF": (with_chunk(encode(RGB, "PNG"), b"eXIf", b"no exif at all"), COLOURS),
}
EIGHT_BITS = as_rgb(np.array([[0, 0, 1, 1, 1, 128, 254, 255, 255]]))  # round(grey / 65535 * 255)
for kind in ("PNG", "TIFF", "PPM"):
    MODES[f"16 bits of a {kind}"] = (encode(Image.fromarray(OF_16_BITS), kind), EIGHT_BITS)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    encoded, expected = MODES[mode]
    pixels = decode_bytes(encoded, "x")
    assert (pixels.dtype, pixels.flags.writeable) == (np.uint8, True)
    np.testing.assert_array_equal(pixels, expected)


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


@pytest.mark.parametrize("width", [MAX_PIXELS // 1000 + 1, 1_000_000])
def test_too_many_pixels_are_refused_with_the_limit(width: int) -> None:
    with pytest.raises(InputError, match=rf"x\.png: .* pixels, expected at most {MAX_PIXELS}"):
        decode_bytes(png(width, 1000), "x.png")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> dict[str, Path]:
    return write_bad(tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("kind", [*SOUND, *OTHER])
def test_sound_images_are_decoded(kind: str, sound: dict[str, Path]) -> None:
    expected, tolerance = (OTHER[kind][1], 0) if kind in OTHER else (IMAGE, SOUND[kind][1])
    difference = np.abs(decode(sound[kind]).astype(int) - expected)
    assert difference.shape == expected.shape
    assert difference.max() <= tolerance
    assert difference.mean() <= 8


@pytest.mark.parametrize("kind", [*BAD, *PLACES])
def test_bad_images_are_refused_with_one_line(kind, bad, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.perf_counter()
    with pytest.raises(InputError) as refused:
        decode(bad[kind])
    assert time.perf_counter() - started < SECONDS
    assert str(refused.value).startswith(f"{bad[kind]}: ")
    assert "\n" not in str(refused.value)
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
    for name, printed in (("a\0b.jpg", r"a\\x00b\.jpg"), (os.fsdecode(b"\xff.jpg"), r"\\udcff\.jpg")):
        with pytest.raises(InputError, match=f"{printed}: cannot be read"):
            decode(tmp_path / name)


PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
from data.images.decode import decode
peak = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
Image.init()
before = peak()
print(decode(Path(sys.argv[1])).shape[0] ** 2, peak() - before)
"""


def one_colour(mode: str, side: int) -> Image.Image:
    return Image.new(mode, (side, side), (9, 99, 199, 50))


LARGEST: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "PNG": (MAX_PIXELS, lambda side: png(side, side, bytes((3 * side + 1) * side))),
    "JPEG": (MAX_PIXELS, lambda side: encode(one_colour("CMYK", side), progressive=True, subsampling=0)),
    "WEBP": (MAX_PIXELS_OF["WEBP"], lambda side: encode(one_colour("RGBA", side), "WEBP", lossless=True, method=0)),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_image_takes_less_than_500_mb(kind: str, tmp_path: Path) -> None:
    most, make = LARGEST[kind]
    side = int(most**0.5)
    (tmp_path / "large.jpg").write_bytes(make(side))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "large.jpg")]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pixels, memory = map(int, output.split())
    assert pixels == side * side
    assert memory + MAX_BYTES < 500_000_000
