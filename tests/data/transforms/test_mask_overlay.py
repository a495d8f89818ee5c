"""Masks drawn on bare faces: where they go, what they leave alone, and chance only from the generator."""

import numpy as np
import pytest

from data.transforms.face_geometry import Face, aligned_face
from data.transforms.mask_overlay import WAYS, draw_mask
from data.transforms.pipeline import Pipeline

FACE = np.full((128, 96, 3), 120, dtype=np.uint8)


def test_same_generator_same_mask_and_the_image_itself_is_left_alone():
    first = draw_mask(FACE, aligned_face(128, 96), "worn", np.random.default_rng(3))
    again = draw_mask(FACE, aligned_face(128, 96), "worn", np.random.default_rng(3))
    other = draw_mask(FACE, aligned_face(128, 96), "worn", np.random.default_rng(4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (FACE == 120).all()


@pytest.mark.parametrize("seed", range(8))
def test_ways_differ_in_how_high_the_mask_reaches(seed: int):
    face = aligned_face(128, 96)
    top = {}
    for way in ("worn", "under_nose", "on_chin"):
        changed = draw_mask(FACE, face, way, np.random.default_rng(seed)) != FACE
        # Cloth can match the face somewhere; the rows where most of the middle changed are the mask.
        rows = np.flatnonzero(changed.any(axis=2)[:, 40:56].mean(axis=1) > 0.7)
        top[way] = (rows.min() - face.eyes) / face.unit
    nose = 0.6  # the tip of the nose lies at about 0.58 of the way from the eyes to the mouth
    assert top["worn"] < nose < top["under_nose"] < 1 < top["on_chin"]


def covered(way: str, y: float, x: float, seeds: int = 30) -> float:
    """How often the point y face units below the eyes and x half widths beside the middle is under cloth."""
    face = aligned_face(128, 96)
    row, column = round(face.eyes + y * face.unit), round(face.middle + x * face.half_width)
    drawn = [draw_mask(FACE, face, way, np.random.default_rng(seed))[row, column] for seed in range(seeds)]
    return float(np.mean([(pixel != 120).any() for pixel in drawn]))


def test_each_wrong_way_covers_what_its_name_says():
    nose, mouth, cheek, eyes = (0.55, 0), (1.0, 0), (1.0, 0.75), (0.0, 0)
    assert covered("worn", *nose) > 0.8 < covered("worn", *mouth)
    assert covered("under_nose", *nose) == 0 < 0.8 < covered("under_nose", *mouth)
    assert covered("on_chin", *mouth) == 0 < 0.8 < covered("on_chin", 1.8, 0)
    assert covered("mouth_only", *mouth) > 0.8 > covered("mouth_only", *cheek) == 0
    assert covered("mouth_only", *nose) < 0.3
    assert covered("on_eyes", *eyes) > 0.8 > covered("on_eyes", *mouth) == 0
    either_side = covered("one_ear", *cheek) + covered("one_ear", 1.0, -0.75)
    assert 0.8 < either_side < 1.2  # hanging from the one ear or from the other
    assert covered("one_ear", *mouth) < 0.2


def test_eyes_stay_free_unless_the_mask_is_worn_on_them():
    face = aligned_face(128, 96)
    above = slice(0, round(face.eyes + 0.1 * face.unit))
    for way in sorted(WAYS.keys() - {"on_eyes", "one_ear"}):
        for seed in range(20):
            drawn = draw_mask(FACE, face, way, np.random.default_rng(seed))
            assert np.array_equal(drawn[above], FACE[above])


def test_the_step_draws_as_often_as_it_says():
    drawn = Pipeline([{"drawn_mask": {"p": 0.7}}])
    changed = [not np.array_equal(drawn(FACE, (0, 0, row)), FACE) for row in range(200)]
    # 200 draws at 0.7 stray from it by more than 0.1 once in 500 times; the entropy is fixed.
    assert abs(np.mean(changed) - 0.7) < 0.1
    never = Pipeline([{"drawn_mask": {"p": 0.0}}])
    assert np.array_equal(never(FACE, (0, 0, 0)), FACE)


@pytest.mark.parametrize("middle", [-500.0, -20.0, 100.0, 500.0])
def test_a_mask_that_reaches_over_the_edge_is_cut_there(middle: float):
    face = Face(middle, eyes=60.0, mouth=90.0, half_width=30.0)
    drawn = draw_mask(FACE, face, "worn", np.random.default_rng(0))
    assert drawn.shape == FACE.shape
    columns = np.flatnonzero((drawn != FACE).any(axis=(0, 2)))
    assert all(abs(column - middle) < 1.3 * face.half_width for column in columns)
    assert bool(len(columns)) == (-30 < middle < 126)
