"""What each image is: size, format, digest, fingerprint, levels; read once, in parallel, bad ones told."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from data.images.decode import decode_bytes, header_of, read_encoded
from data.runtime.errors import InputError, printable
from data.runtime.processes import parallel_map
from data.statistics import count_levels

CHUNK = 32
HASH_SIZE = 8  # 8 x 8 bits, what near duplicates are told by


@dataclass(frozen=True)
class ImageInfo:
    """One image as it was decoded.

    Attributes:
        width: of the upright image, in pixels.
        height: likewise.
        kind: file format and mode, such as "JPEG RGB".
        file_bytes: size of the file.
        digest: SHA-256 of shape and pixels: equal only for the same image, whatever its file format.
        fingerprint: 64 bits (a perceptual hash) that scaling or compression hardly change.
        levels: how often each level occurs in each channel, [3, 256].
    """

    width: int
    height: int
    kind: str
    file_bytes: int
    digest: str
    fingerprint: int
    levels: npt.NDArray[np.int64]


def inspect_images(paths: Sequence[str], processes: int | None = None) -> list[ImageInfo | str]:
    """For each image [N] what it is, or why it cannot be read; `processes` None for one a core."""
    return list(parallel_map(inspect_image, paths, processes, at_once=CHUNK))


def inspect_image(path: str) -> ImageInfo | str:
    """What one image is, or why it cannot be read."""
    try:
        encoded = read_encoded(Path(path))
        pixels = decode_bytes(encoded, printable(path))
    except InputError as error:
        return str(error)
    height, width = pixels.shape[:2]
    return ImageInfo(
        width=width,
        height=height,
        kind=" ".join(header_of(encoded)),
        file_bytes=len(encoded),
        digest=hashlib.sha256(f"{height}x{width}:".encode() + pixels.tobytes()).hexdigest(),
        fingerprint=fingerprint(pixels),
        levels=count_levels(pixels),
    )


def fingerprint(pixels: npt.NDArray[np.uint8]) -> int:
    """A perceptual hash of 64 bits of RGB pixels [H, W, 3]; imagehash's `phash`.

    >>> grey = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (1, 64, 3))
    >>> (fingerprint(grey) ^ fingerprint(grey[::2, ::2])).bit_count() <= 2
    True
    """
    bits = imagehash.phash(Image.fromarray(pixels), hash_size=HASH_SIZE).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
