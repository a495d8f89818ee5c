"""Images of a data set: sizes, formats and levels, the same image twice, and nearly the same."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from data.images.decode import decode_bytes, header_of, read_encoded
from data.runtime.errors import InputError, printable
from data.statistics import count_levels, mean_and_std

HASH_SIZE = 8  # perceptual hashes of 8 x 8 bits
NEAR = 4  # of 64 bits; scaling and compression change up to 4 or so, different images differ in about 32
BLOCK = 512  # rows of hashes compared at a time
MAX_LISTED = 200  # examples of duplicates and sizes; all are counted

Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageInfo:
    """One decoded image."""

    width: int  # of the upright image, in pixels, as the height
    height: int
    kind: str  # file format and mode, such as "JPEG RGB"
    file_bytes: int
    digest: str  # SHA-256 of shape and pixels: equal only for the same image, whatever its file format
    fingerprint: int  # imagehash's `phash` of 64 bits, which scaling or compression hardly change
    levels: npt.NDArray[np.int64]  # how often each level occurs in each channel, [3, 256]


def inspect_image(path: str) -> ImageInfo | str:
    """Describe one image, or return why it cannot be read."""
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
        fingerprint=int(str(imagehash.phash(Image.fromarray(pixels), HASH_SIZE)), 16),
        levels=count_levels(pixels),
    )


def image_facts(images: Sequence[ImageInfo]) -> dict[str, Any]:
    """Summarise sizes, formats and the channels' mean and standard deviation of the images."""
    if not images:
        return {}
    sizes = Counter(f"{each.width} x {each.height}" for each in images)
    mean, std = mean_and_std(np.sum([each.levels for each in images], axis=0))
    spans = {name: [getattr(each, name) for each in images] for name in ("width", "height")}
    return {
        "sizes": dict(sizes.most_common(MAX_LISTED)),
        "different_sizes": len(sizes),
        **{n: {"least": min(v), "median": float(np.median(v)), "most": max(v)} for n, v in spans.items()},
        "formats": dict(Counter(each.kind for each in images).most_common()),
        "megabytes": sum(each.file_bytes for each in images) / 1e6,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def find_duplicates(images: Mapping[int, ImageInfo], people: Sequence[str | None]) -> dict[str, Pairs]:
    """Find pairs of images (by row) that are the same or nearly so: for each kind of pair the rows, [P, 2].

    `people` has each row's person; None for an image of another set, which is compared with the data alone.
    Images of one person are similar by nature, so near duplicates are searched across people only.
    """
    rows = np.array(list(images), dtype=np.int64)
    outside = np.array([people[row] is None for row in rows], dtype=bool)
    person = np.unique([people[row] or "" for row in rows], return_inverse=True)[1]
    digest = np.unique([each.digest for each in images.values()], return_inverse=True)[1]
    near = near_pairs(np.array([each.fingerprint for each in images.values()], dtype=np.uint64))
    near = near[digest[near[:, 0]] != digest[near[:, 1]]]
    found = {}
    for prefix, pairs in (("", same_pairs(digest.tolist())), ("near_", near)):
        one, other = pairs.T
        inside, different = ~(outside[one] | outside[other]), person[one] != person[other]
        found[f"{prefix}same_person"] = rows[pairs[inside & ~different]]
        found[f"{prefix}across_people"] = rows[pairs[inside & different]]
        found[f"{prefix}between_sets"] = rows[pairs[outside[one] != outside[other]]]
    del found["near_same_person"]
    return found


def same_pairs(digests: Sequence[int]) -> Pairs:
    """Find the pairs (i, j), i < j, of equal digests [N]: [P, 2], group by group.

    >>> same_pairs([7, 8, 7, 9, 8, 7]).tolist()
    [[0, 2], [0, 5], [2, 5], [1, 4]]
    """
    groups: dict[int, list[int]] = {}
    for place, digest in enumerate(digests):
        groups.setdefault(digest, []).append(place)
    pairs = [np.array(each)[np.stack(np.triu_indices(len(each), 1), axis=1)] for each in groups.values()]
    return np.concatenate([np.empty((0, 2), np.int64), *pairs])


def near_pairs(fingerprints: npt.NDArray[np.uint64]) -> Pairs:
    """Find the pairs (i, j), i < j, of fingerprints [N] that differ in at most `NEAR` bits: [P, 2], sorted.

    Every pair is compared, in blocks: N * N / 2 steps of a nanosecond or so.

    >>> near_pairs(np.array([0, 1, 255], np.uint64)).tolist()
    [[0, 1]]
    """
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(fingerprints), BLOCK):
        block = fingerprints[start : start + BLOCK, None] ^ fingerprints[None, start:]
        pairs = np.argwhere(np.bitwise_count(block) <= NEAR) + start
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def list_pairs(pairs: Pairs, paths: Sequence[str]) -> list[list[str]]:
    """Name the first pairs [P, 2] of rows by their `paths` [N], at most `MAX_LISTED`."""
    return [[paths[one], paths[other]] for one, other in pairs[:MAX_LISTED].tolist()]
