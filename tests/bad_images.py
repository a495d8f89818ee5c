"""Images as people have them: sound in unusual ways, damaged (`BAD`, `PLACES`), and meant to do harm."""

import contextlib
import io
import os
import socket
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Y, X = np.mgrid[:40, :60]
IMAGE = np.dstack([X * 4, Y * 6, (X + Y) * 2]).astype(np.uint8)
GREY = np.repeat(IMAGE[..., :1], 3, axis=2)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **{"quality": 95} | options if kind in ("JPEG", "WEBP", "AVIF") else options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, rows: bytes = b"", *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"".join([PNG[:8], header, *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


RGB = Image.fromarray(IMAGE)
JPEG, PNG = encoded(RGB), encoded(RGB, "PNG")
LARGE = {kind: encoded(RGB.resize((240, 160)), kind) for kind in ("GIF", "BMP", "TIFF", "WEBP")}
ALPHA = Image.fromarray(np.dstack([IMAGE, np.full((40, 60), 255, np.uint8)]))


# Kinds that must decode to IMAGE: the bytes, and how far off the pixels may be.
SOUND: dict[str, tuple[Callable[[], bytes], int]] = {
    "jpeg": (lambda: JPEG, 12),
    "jpeg_progressive": (lambda: encoded(RGB, progressive=True), 12),
    "png_named_jpg": (lambda: PNG, 0),
    "jpeg_with_junk_behind": (lambda: JPEG + bytes(range(256)), 12),
    "jpeg_cmyk": (lambda: encoded(RGB.convert("CMYK")), 40),
    "png_palette_alpha": (lambda: encoded(RGB.quantize(256), "PNG", transparency=bytes([255] * 256)), 40),
    "png_alpha": (lambda: encoded(ALPHA, "PNG"), 0),
    "gif_animated": (lambda: encoded(RGB, "GIF", save_all=True, append_images=[RGB.rotate(180)]), 90),
    "webp": (lambda: encoded(RGB, "WEBP"), 40),
    "avif": (lambda: encoded(RGB, "AVIF"), 40),
    "bmp": (lambda: encoded(RGB, "BMP"), 0),
    "tiff": (lambda: encoded(RGB, "TIFF"), 0),
    "tiff_of_several_pages": (lambda: encoded(RGB, "TIFF", save_all=True, append_images=[RGB.rotate(180)]), 0),
    "jpeg2000": (lambda: encoded(RGB, "JPEG2000"), 2),
    "ppm": (lambda: encoded(RGB, "PPM"), 0),
    "tga": (lambda: encoded(RGB, "TGA"), 0),
}


# Kinds that must decode to other pixels.
OTHER: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "png_16_bit": (lambda: encoded(Image.fromarray(GREY[..., 0].astype(np.uint16) * 257), "PNG"), GREY),
    "png_1_bit": (lambda: encoded(Image.fromarray(GREY[..., 0] > 99), "PNG"), np.where(GREY > 99, 255, 0)),
    "png_1x1": (lambda: png(1, 1, b"\0\1\2\3"), np.array([[[1, 2, 3]]])),
    "png_1_high_and_60000_wide": (lambda: png(60_000, 1, bytes(180_001)), np.zeros((1, 60_000, 3))),
}


def flipped(count: int) -> bytes:
    """A PNG so many of whose bytes behind its head are others: its checksums tell."""
    content = np.frombuffer(PNG, np.uint8).copy()
    content[np.random.default_rng(count).choice(np.arange(60, len(PNG) - 20), count, replace=False)] ^= 255
    return content.tobytes()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EndComments\n(touched) (w) file closefile\n"
BAD: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    **{f"jpeg_cut_at_{n}_tenths": lambda n=n: JPEG[: len(JPEG) * n // 10] for n in range(1, 10)},
    **{f"png_cut_at_{n}_tenths": lambda n=n: PNG[: len(PNG) * n // 10] for n in range(1, 10)},
    **{f"{kind.lower()}_cut": lambda kind=kind: LARGE[kind][: len(LARGE[kind]) // 2] for kind in LARGE},
    **{f"png_flipped_{n}": lambda n=n: flipped(n) for n in range(1, 6)},
    "html": lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "zeros": lambda: bytes(5000),
    "noise": lambda: np.random.default_rng(0).bytes(5000),
    "pickle": lambda: b"cos\nsystem\n(S'touch touched'\ntR.",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "eps": lambda: EPS,
    "png_0_wide": lambda: png(0, 40),
    "png_of_60000_by_60000": lambda: png(60_000, 60_000),
    "png_of_2_to_the_31": lambda: png(2**31 - 1, 2**31 - 1),
    "png_bomb": lambda: png(10_000, 10_000, bytes(30_001)),
    "png_text_bomb": lambda: png(1, 1, b"\0\1\2\3", chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000), 9))),
    "tiff_floats_without_range": lambda: encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
    "tiff_that_points_to_itself": lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "gif_without_frames": lambda: b"GIF89a\x3c\0\x28\0\0\0\0;",
}


def bound_socket(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:  # a socket's name is at most 107 bytes
        made.bind(path.name)


def too_many_bytes(path: Path) -> None:
    with path.open("wb") as file:
        file.write(JPEG)
        file.truncate(5_000_000_000)  # sparse: takes no room


PLACES: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "broken_link": lambda path: path.symlink_to(path.with_name("gone.jpg")),
    "link_to_itself": lambda path: path.symlink_to(path),
    "fifo": os.mkfifo,
    "socket": bound_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "too_many_bytes": too_many_bytes,
}
NAMES = {
    "decomposed": unicodedata.normalize("NFD", "박서연 얼굴.jpg"),
    "spaces": "two  spaces.jpg",
    "quotes": 'it\'s "quoted", twice; 🙂.jpg',
    "newline": "two\nlines.jpg",
    "long": "l" * 240 + ".jpg",
}


def write_sound(folder: Path) -> dict[str, Path]:
    """Write each kind that decodes as KIND.jpg."""
    paths = {kind: folder / f"{kind}.jpg" for kind in (*SOUND, *OTHER)}
    for kind, path in paths.items():
        path.write_bytes((SOUND | OTHER)[kind][0]())
    return paths


def write_bad(folder: Path) -> dict[str, Path]:
    """Write each kind that cannot be decoded as KIND.jpg."""
    paths = {kind: folder / f"{kind}.jpg" for kind in (*BAD, *PLACES)}
    for kind, make in BAD.items():
        paths[kind].write_bytes(make())
    for kind, place in PLACES.items():
        place(paths[kind])
    return paths
