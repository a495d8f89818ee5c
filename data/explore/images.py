"""Images of a data set: sizes, formats and levels, the same image twice, and nearly the same."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
COMPARED = 2**22  # pairs of images compared at a time: about 100 MB
MAX_LISTED = 200  # examples of duplicates and sizes; all are counted

KINDS = (
    *("same_person", "across_people", "between_sets", "near_across_people", "near_between_sets"),
    "in_two_folds",  # the same image of two people, in two folds
)

Levels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One decoded image, without anything as large as its pixels or levels: there may be a million."""

    width: int  # of the upright image, in pixels, as the height
    height: int
    kind: str  # file format and mode, such as "JPEG RGB"
    file_bytes: int
    digest: str  # SHA-256 of shape and pixels: equal only for the same image, whatever its file format
    fingerprint: int  # imagehash's `phash` of 64 bits, which scaling or compression hardly change


@dataclass
class Pairs:
    """Pairs of images of one kind: how many, and the rows (i, j), i < j, of the first `MAX_LISTED`."""

    count: int = 0
    examples: list[tuple[int, int]] = field(default_factory=list)

    def add(self, pairs: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> None:
        """Count the pairs that a matrix [len(rows), len(others)] marks, and keep those that are listed."""
        self.count += int(np.count_nonzero(pairs))
        for one in np.flatnonzero(pairs.any(axis=1)):
            if len(self.examples) == MAX_LISTED:
                break
            found = np.flatnonzero(pairs[one])[: MAX_LISTED - len(self.examples)]
            self.examples += [(int(rows[one]), int(others[other])) for other in found]


def inspect_image(path: str) -> tuple[ImageInfo, Levels] | str:
    """Describe one image and count the levels of its channels [3, 256], or return why it cannot be read."""
    try:
        encoded = read_encoded(Path(path))
        pixels = decode_bytes(encoded, printable(path))
    except InputError as error:
        return str(error)
    height, width = pixels.shape[:2]
    info = ImageInfo(
        width=width,
        height=height,
        kind=" ".join(header_of(encoded)),
        file_bytes=len(encoded),
        digest=hashlib.sha256(f"{height}x{width}:".encode() + pixels.tobytes()).hexdigest(),
        fingerprint=int(str(imagehash.phash(Image.fromarray(pixels), HASH_SIZE)), 16),
    )
    return info, count_levels(pixels)


def image_facts(images: Sequence[ImageInfo], levels: Levels) -> dict[str, Any]:
    """Summarise sizes, formats and the channels' mean and standard deviation; `levels` are those of all images."""
    if not images:
        return {}
    sizes = Counter(f"{each.width} x {each.height}" for each in images)
    mean, std = mean_and_std(levels)
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


def find_duplicates(
    images: Mapping[int, ImageInfo], people: Sequence[int | None], folds: Sequence[int]
) -> dict[str, Pairs]:
    """Find pairs of images (by row) that are the same or nearly so, by kind of pair.

    Every pair is compared, N * N / 2 steps of a few nanoseconds, but only `MAX_LISTED` of each kind are kept: if all
    images are the same, there are as many pairs.

    Args:
        images: by row.
        people: each row's, as numbers; None for an image of another set, which is compared with the data alone. Images
            of one person are similar by nature, so near duplicates are searched across people only.
        folds: of each row of the data.
    """
    rows = np.array(list(images), dtype=np.int64)
    outside = np.array([people[row] is None for row in rows], dtype=bool)
    person, fold = (
        np.array([(-1, -1) if people[row] is None else (people[row], folds[row]) for row in rows], dtype=np.int64)
        .reshape(-1, 2)
        .T
    )
    digest = np.unique([each.digest for each in images.values()], return_inverse=True)[1]
    prints = np.array([each.fingerprint for each in images.values()], dtype=np.uint64)
    found = {kind: Pairs() for kind in KINDS}
    block = max(1, COMPARED // max(1, len(rows)))
    for start in range(0, len(rows), block):
        near = np.triu(np.bitwise_count(prints[start : start + block, None] ^ prints[None, start:]) <= NEAR, k=1)
        some = near.any(axis=1)
        near, one, other = near[some], np.flatnonzero(some)[:, None] + start, slice(start, None)
        same = digest[one] == digest[other]
        inside, across = ~(outside[one] | outside[other]), person[one] != person[other]
        between = outside[one] != outside[other]
        kinds = {
            "same_person": same & inside & ~across,
            "across_people": same & inside & across,
            "between_sets": same & between,
            "near_across_people": near & ~same & inside & across,
            "near_between_sets": near & ~same & between,
            "in_two_folds": same & inside & across & (fold[one] != fold[other]),
        }
        for kind, pairs in kinds.items():
            found[kind].add(near & pairs, rows[one[:, 0]], rows[other])
    return found
