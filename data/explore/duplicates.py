"""Images that are there more than once: the same pixels, or fingerprints that hardly differ."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Of 64 bits. Scaling and compression change up to 4 or so; unlike images differ in about 32.
NEAR = 4
BLOCK = 512


def exact_groups(digests: Sequence[str]) -> list[list[int]]:
    """Places [N] of equal digests, every group of two or more, in the order of their first.

    >>> exact_groups(["a", "b", "a", "c", "b"])
    [[0, 2], [1, 4]]
    """
    groups: dict[str, list[int]] = {}
    for place, digest in enumerate(digests):
        groups.setdefault(digest, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(fingerprints: npt.NDArray[np.uint64], distance: int = NEAR) -> npt.NDArray[np.int64]:
    """Pairs (i, j), i < j, whose fingerprints [N] differ in at most `distance` bits: [P, 2], sorted.

    Every pair is compared, in blocks: N * N / 2 steps of a nanosecond or so.

    >>> near_pairs(np.array([0, 1, 255], np.uint64)).tolist()
    [[0, 1]]
    """
    found = []
    for start in range(0, len(fingerprints), BLOCK):
        block = fingerprints[start : start + BLOCK, None] ^ fingerprints[None, start:]
        rows, columns = np.nonzero(np.bitwise_count(block) <= distance)
        later = columns > rows
        found.append(np.stack([rows[later] + start, columns[later] + start], axis=1))
    pairs = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def across(pairs: npt.NDArray[np.int64], groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Those of `pairs` [P, 2] whose two places have different `groups` [N]: other people, or other sets.

    >>> across(np.array([[0, 1], [1, 2]]), ["anna", "anna", "ben"]).tolist()
    [[1, 2]]
    """
    names = np.asarray(groups, dtype=str)
    apart: npt.NDArray[np.int64] = pairs[names[pairs[:, 0]] != names[pairs[:, 1]]]
    return apart
