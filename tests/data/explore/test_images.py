"""Descriptions of images, and pairs of equal and nearly equal ones."""

import pickle
from itertools import combinations
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.explore.images import KINDS, MAX_LISTED, NEAR, ImageInfo, find_duplicates, inspect_image
from data.runtime.processes import parallel_map


def image(seed, size=(96, 128)):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def test_an_image_in_two_lossless_formats_has_one_digest(tmp_path):
    for name in ("a.png", "a.bmp"):
        image(0).save(tmp_path / name)
    image(0).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    found = [inspect_image(str(tmp_path / name)) for name in ("a.png", "a.bmp", "turned.png")]
    (png, levels), (bmp, _), (turned, _) = found
    assert png.digest == bmp.digest != turned.digest
    assert (png.kind, bmp.kind) == ("PNG RGB", "BMP RGB")
    assert (png.width, png.height) == (96, 128) == (turned.height, turned.width)
    assert (png.file_bytes, levels.sum()) == ((tmp_path / "a.png").stat().st_size, 3 * 96 * 128)


def test_fingerprints_hardly_change_by_scaling_and_compression(tmp_path):
    image(1).save(tmp_path / "a.png")
    image(2).save(tmp_path / "other.png")
    image(1).resize((48, 64)).save(tmp_path / "small.jpg", quality=60)
    paths = [str(tmp_path / name) for name in ("a.png", "small.jpg", "other.png", "gone.jpg")]
    *described, gone = parallel_map(inspect_image, paths, 2)
    original, small, other = (each for each, _ in described)
    assert (original.fingerprint ^ small.fingerprint).bit_count() <= NEAR
    assert (original.fingerprint ^ other.fingerprint).bit_count() > NEAR
    assert gone == f"{paths[3]}: cannot be read (No such file or directory), expected an image file"


def info(digest, fingerprint):
    return ImageInfo(1, 1, "", 1, str(digest), fingerprint)


def kinds_of(one, other):
    """The kinds of a pair of images, each (person or None, digest, fingerprint, fold)."""
    (one_is, one_digest, one_print, one_fold), (other_is, other_digest, other_print, other_fold) = one, other
    if (one_print ^ other_print).bit_count() > NEAR or (one_is is None and other_is is None):
        return []
    near = "" if one_digest == other_digest else "near_"
    if one_is is None or other_is is None:
        return [near + "between_sets"]
    kinds = [near + ("same_person" if one_is == other_is else "across_people")]
    return [*kinds, "in_two_folds"] if kinds == ["across_people"] and one_fold != other_fold else kinds


PRINTS = (0, 1, 0b11111, 2**63 + 1, 2**64 - 1)  # of each digest, since the same image has the same fingerprint
IMAGES = st.tuples(st.sampled_from([0, 1, 2, None]), st.integers(0, 4), st.integers(0, 1))


@given(st.lists(IMAGES, max_size=12), st.integers(1, 60), st.integers(0, 3))
def test_pairs_are_those_of_a_plain_loop_and_only_the_first_are_listed(drawn, compared, listed):
    images = [(person, digest, PRINTS[digest], fold) for person, digest, fold in drawn]
    expected = {kind: [] for kind in KINDS} | {"near_same_person": []}
    for (i, one), (j, other) in combinations(enumerate(images), 2):
        for kind in kinds_of(one, other):
            expected[kind].append((2 * i, 2 * j))
    del expected["near_same_person"]  # similar by nature
    rows = {2 * row: info(digest, fingerprint) for row, (_, digest, fingerprint, _) in enumerate(images)}
    people, folds = ([each for image in images for each in (image[place], 9)] for place in (0, 3))
    with patch("data.explore.images.COMPARED", compared), patch("data.explore.images.MAX_LISTED", listed):
        found = find_duplicates(rows, people, folds)
    assert {kind: each.count for kind, each in found.items()} == {kind: len(each) for kind, each in expected.items()}
    assert {kind: each.examples for kind, each in found.items()} == {k: each[:listed] for k, each in expected.items()}


def test_memory_is_that_of_the_images_whatever_they_are(tmp_path):
    image(0, (600, 400)).save(tmp_path / "a.png")
    described, levels = inspect_image(str(tmp_path / "a.png"))
    assert len(pickle.dumps(described)) < 500
    assert levels.sum() == 3 * 600 * 400
    equal = dict.fromkeys(range(700), described)
    found = find_duplicates(equal, [row % 2 for row in equal], [0] * len(equal))
    assert (found["across_people"].count, found["same_person"].count) == (350 * 350, 350 * 349)
    assert sum(len(each.examples) for each in found.values()) == 2 * MAX_LISTED
