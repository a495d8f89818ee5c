"""Descriptions of images, and pairs of equal and nearly equal ones."""

from itertools import combinations
from unittest.mock import patch

import imagehash
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.explore.images import NEAR, ImageInfo, find_duplicates, inspect_image, near_pairs
from data.runtime.processes import parallel_map


def image(seed, size=(96, 128)):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def test_an_image_in_two_lossless_formats_has_one_digest(tmp_path):
    for name in ("a.png", "a.bmp"):
        image(0).save(tmp_path / name)
    image(0).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    png, bmp, turned = (inspect_image(str(tmp_path / name)) for name in ("a.png", "a.bmp", "turned.png"))
    assert png.digest == bmp.digest != turned.digest
    assert (png.kind, bmp.kind) == ("PNG RGB", "BMP RGB")
    assert (png.width, png.height) == (96, 128) == (turned.height, turned.width)
    assert (png.file_bytes, png.levels.sum()) == ((tmp_path / "a.png").stat().st_size, 3 * 96 * 128)


def test_fingerprints_hardly_change_by_scaling_and_compression(tmp_path):
    image(1).save(tmp_path / "a.png")
    image(2).save(tmp_path / "other.png")
    image(1).resize((48, 64)).save(tmp_path / "small.jpg", quality=60)
    paths = [str(tmp_path / name) for name in ("a.png", "small.jpg", "other.png", "gone.jpg")]
    original, small, other, gone = parallel_map(inspect_image, paths, 2)
    assert f"{original.fingerprint:016x}" == str(imagehash.phash(image(1)))
    assert (original.fingerprint ^ small.fingerprint).bit_count() <= NEAR
    assert (original.fingerprint ^ other.fingerprint).bit_count() > NEAR
    assert gone == f"{paths[3]}: cannot be read (No such file or directory), expected an image file"


@given(st.lists(st.integers(0, 2047), max_size=30), st.integers(1, 9))
def test_near_pairs_are_those_of_a_plain_loop(fingerprints, block):
    pairs = combinations(enumerate(fingerprints), 2)
    expected = [[i, j] for (i, one), (j, other) in pairs if (one ^ other).bit_count() <= NEAR]
    with patch("data.explore.images.BLOCK", block):
        assert near_pairs(np.array(fingerprints, dtype=np.uint64)).tolist() == expected


def test_pairs_are_sorted_by_person_and_by_set():
    people = ["p1", "p2", "unread", "p2", "p3", None, None, "p1", None]
    digests = dict(zip((0, 1, 3, 4, 5, 6, 7, 8), "xxxyxzzz", strict=True))
    prints = dict(zip(digests, [0, 0, 0, 1, 0, 255, 255, 255], strict=True))
    levels = np.zeros((3, 256), np.int64)
    images = {row: ImageInfo(1, 1, "", 1, digest, prints[row], levels) for row, digest in digests.items()}
    assert {kind: found.tolist() for kind, found in find_duplicates(images, people).items()} == {
        "same_person": [[1, 3]],
        "across_people": [[0, 1], [0, 3]],
        "between_sets": [[0, 5], [1, 5], [3, 5], [6, 7], [7, 8]],
        "near_across_people": [[0, 4], [1, 4], [3, 4]],
        "near_between_sets": [[4, 5]],
    }
    assert all(found.shape == (0, 2) for found in find_duplicates({}, []).values())
