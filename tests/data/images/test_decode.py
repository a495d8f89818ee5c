"""One decoder: every mode to upright RGB, and one clear message for what is no image."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from data.images.decode import BACKGROUND, MAX_PIXELS, decode, decode_bytes
from data.runtime.errors import InputError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = COLOURS[..., 0]
ALPHA = np.where(np.arange(9) < 4, 0, 255).astype(np.uint8) * np.ones((6, 1), np.uint8)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def over_background(rgb: np.ndarray) -> np.ndarray:
    return np.where(ALPHA[..., None] == 0, np.array(BACKGROUND, np.uint8), rgb)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "WEBP"])
def test_rgb_comes_back_as_it_is(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode_bytes(encode(Image.fromarray(COLOURS), kind, **options), "x")
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, COLOURS)


def test_grey_and_one_bit():
    np.testing.assert_array_equal(decode_bytes(encode(Image.fromarray(GREY), "PNG"), "x"), as_rgb(GREY))
    bits = Image.fromarray(GREY > 127)
    assert bits.mode == "1"
    np.testing.assert_array_equal(
        decode_bytes(encode(bits, "PNG"), "x"), as_rgb(np.where(GREY > 127, 255, 0).astype(np.uint8))
    )


def test_alpha_is_laid_over_the_background():
    rgba = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    np.testing.assert_array_equal(decode_bytes(encode(rgba, "PNG"), "x"), over_background(COLOURS))
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    np.testing.assert_array_equal(decode_bytes(encode(grey, "PNG"), "x"), over_background(as_rgb(GREY)))


def test_half_transparent_is_half_background():
    rgba = Image.new("RGBA", (2, 2), (0, 100, 200, 128))
    expected = np.array([0, 100, 200]) * 128 / 255 + np.array(BACKGROUND) * 127 / 255
    np.testing.assert_allclose(decode_bytes(encode(rgba, "PNG"), "x")[0, 0], expected, atol=1)


def test_palette_with_and_without_transparency():
    palette = Image.fromarray(COLOURS).quantize(16)
    colours = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_bytes(encode(palette, "PNG"), "x"), colours)
    np.testing.assert_array_equal(decode_bytes(encode(palette, "GIF"), "x"), colours)
    index = np.asarray(palette)
    expected = np.where(index[..., None] == 3, np.array(BACKGROUND, np.uint8), colours)
    one_index = encode(palette, "PNG", transparency=3)
    np.testing.assert_array_equal(decode_bytes(one_index, "x"), expected)
    bytewise = encode(palette, "PNG", transparency=bytes(0 if i == 3 else 255 for i in range(16)))
    np.testing.assert_array_equal(decode_bytes(bytewise, "x"), expected)


def test_one_transparent_colour():
    encoded = encode(Image.fromarray(COLOURS), "PNG", transparency=tuple(COLOURS[2, 3].tolist()))
    expected = COLOURS.copy()
    expected[2, 3] = BACKGROUND
    np.testing.assert_array_equal(decode_bytes(encoded, "x"), expected)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    cmyk = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    np.testing.assert_allclose(decode_bytes(encode(cmyk, kind), "x")[8, 8], [0, 255, 255], atol=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    grey = np.array([[0, 128, 129, 256, 257, 32768, 65406, 65407, 65535]], np.uint16)
    expected = np.round(grey / 65535 * 255).astype(np.uint8)
    assert expected.tolist() == [[0, 0, 1, 1, 1, 128, 254, 255, 255]]
    np.testing.assert_array_equal(decode_bytes(encode(Image.fromarray(grey), kind), "x"), as_rgb(expected))


def test_16_bit_grey_with_a_transparent_level():
    grey = np.array([[0, 300, 65535]], np.uint16)
    plain = encode(Image.fromarray(grey), "PNG")
    transparent = plain[:33] + chunk(b"tRNS", struct.pack(">H", 300)) + plain[33:]
    np.testing.assert_array_equal(decode_bytes(transparent, "x")[0, 1], BACKGROUND)
    np.testing.assert_array_equal(decode_bytes(transparent, "x")[0, ::2], [[0, 0, 0], [255, 255, 255]])


def test_pixels_without_a_known_range_are_refused():
    for pixels in (np.ones((2, 2), np.float32), np.full((2, 2), 70000, np.int32)):
        with pytest.raises(InputError, match=r"x\.tif: the image cannot be decoded .*expected"):
            decode_bytes(encode(Image.fromarray(pixels), "TIFF"), "x.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
)
def test_exif_orientation_is_pillows(orientation, kind, options):
    image = Image.fromarray(COLOURS)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    encoded = encode(image, kind, exif=exif, **options)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    np.testing.assert_array_equal(decode_bytes(encoded, "x"), np.asarray(ImageOps.exif_transpose(image)))


def test_a_broken_exif_block_leaves_the_pixels():
    image = Image.fromarray(COLOURS)
    encoded = encode(image, "PNG")
    broken = encoded[:33] + chunk(b"eXIf", b"no exif at all") + encoded[33:]
    np.testing.assert_array_equal(decode_bytes(broken, "x"), COLOURS)


SMOOTH = np.add.outer(np.arange(160), np.arange(240))[..., None] * np.array([0.5, 0.3, 0.6])


@pytest.mark.parametrize(
    ("least", "size"),
    [((240, 160), (240, 160)), ((121, 20), (240, 160)), ((120, 80), (120, 80)), ((31, 20), (60, 40))]
    + [((30, 20), (30, 20)), ((1, 1), (30, 20)), ((500, 500), (240, 160))],
)
def test_least_gives_the_smallest_scale_that_covers(least, size):
    encoded = encode(Image.fromarray(SMOOTH.astype(np.uint8)), "JPEG", quality=95)
    small = decode_bytes(encoded, "x", least)
    assert (small.shape[1], small.shape[0]) == size
    reduced = Image.fromarray(decode_bytes(encoded, "x")).reduce(240 // size[0])
    np.testing.assert_allclose(small.astype(int), np.asarray(reduced).astype(int), atol=4)


def test_least_is_about_the_upright_image_and_jpegs_alone():
    image = Image.fromarray(SMOOTH.astype(np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert decode_bytes(encode(image, "JPEG", exif=exif), "x", least=(80, 120)).shape == (120, 80, 3)
    assert decode_bytes(encode(image, "JPEG", exif=exif), "x", least=(81, 120)).shape == (240, 160, 3)
    assert decode_bytes(encode(image, "PNG"), "x", least=(10, 10)).shape == (160, 240, 3)
    with pytest.raises(ValueError, match="at least 1"):
        decode_bytes(encode(image, "JPEG"), "x", least=(0, 10))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_too_many_pixels_are_told_with_the_limit():
    for width in (MAX_PIXELS // 1000 + 1, 100_000, 1_000_000):
        with pytest.raises(InputError, match=rf"x\.png: .* pixels, expected at most {MAX_PIXELS}"):
            decode_bytes(png_header(width, 1000), "x.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_told_where_pillow_only_warns():
    with pytest.raises(InputError, match="100000 x 1000 pixels"):
        decode_bytes(png_header(100_000, 1000), "x.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_cut_short(kind):
    encoded = encode(Image.fromarray(SMOOTH.astype(np.uint8)), kind)
    with pytest.raises(InputError, match=r"face\.x: "):
        decode_bytes(encoded[: len(encoded) // 2], "face.x")


def test_no_image_empty_missing_and_a_folder(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    reasons = {
        "text.jpg": "not an image of a known format",
        "empty.jpg": "an empty file, expected an image",
        "missing.jpg": r"cannot be read \(No such file or directory\)",
        "folder.jpg": r"cannot be read \(Is a directory\)",
    }
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=f"{name}: {reason}"):
            decode(tmp_path / name)


def test_a_file_decodes_as_its_bytes(tmp_path):
    encoded = encode(Image.fromarray(SMOOTH.astype(np.uint8)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(encoded)
    expected = decode_bytes(encoded, "x", (60, 40))
    np.testing.assert_array_equal(decode(tmp_path / "a.jpg", least=(60, 40)), expected)
