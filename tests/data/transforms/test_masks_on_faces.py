"""Regions of aligned faces, and masks drawn on them: where they go, and randomness from the generator alone."""

import numpy as np
import pytest

from data.transforms.face_geometry import Face, aligned_face, face_region, smallest_region
from data.transforms.mask_overlay import draw_mask
from data.transforms.pipeline import Pipeline

IMAGE = np.full((128, 96, 3), 120, dtype=np.uint8)
FACE = aligned_face(128, 96)


@pytest.mark.parametrize("margin", [0.8, 1.0, 1.2])
@pytest.mark.parametrize(("height", "width"), [(256, 192), (144, 144), (185, 144), (96, 128)])
def test_a_region_contains_the_face_and_at_least_the_smallest_shares(height, width, margin):
    face = aligned_face(height, width)
    rows, columns = face_region(height, width, margin)
    assert 0 <= rows.start < face.eyes < face.mouth < rows.stop <= height
    assert max(columns.start, width - columns.stop) <= face.middle - 0.9 * face.half_width
    least = smallest_region(margin)
    assert rows.stop - rows.start >= least[0] * height - 1
    assert columns.stop - columns.start >= least[1] * width - 1


def covered(way, y, x):
    """How often the point y face units below the eyes and x half widths beside the middle is under cloth."""
    row, column = round(FACE.eyes + y * FACE.unit), round(FACE.middle + x * FACE.half_width)
    drawn = [draw_mask(IMAGE, FACE, way, np.random.default_rng(seed))[row, column] for seed in range(30)]
    return float(np.mean([(pixel != 120).any() for pixel in drawn]))


def test_each_way_covers_what_its_name_says():
    nose, mouth, cheek, eyes = (0.55, 0), (1.0, 0), (1.0, 0.75), (0.0, 0)
    assert covered("worn", *nose) > 0.8 < covered("worn", *mouth)
    assert covered("under_nose", *nose) == 0 < 0.8 < covered("under_nose", *mouth)
    assert covered("on_chin", *mouth) == 0 < 0.8 < covered("on_chin", 1.8, 0)
    assert covered("mouth_only", *mouth) > 0.8 > covered("mouth_only", *cheek) == 0
    assert covered("mouth_only", *nose) < 0.3
    assert covered("on_eyes", *eyes) > 0.8 > covered("on_eyes", *mouth) == 0
    either_side = covered("one_ear", *cheek) + covered("one_ear", 1.0, -0.75)
    assert 0.8 < either_side < 1.2  # on the one ear or on the other
    assert covered("one_ear", *mouth) < 0.2


@pytest.mark.parametrize("middle", [-500.0, -20.0, 100.0, 500.0])
def test_a_mask_beyond_the_edge_is_cut_there(middle):
    face = Face(middle, eyes=60.0, mouth=90.0, half_width=30.0)
    drawn = draw_mask(IMAGE, face, "worn", np.random.default_rng(0))
    assert drawn.shape == IMAGE.shape
    columns = np.flatnonzero((drawn != IMAGE).any(axis=(0, 2)))
    assert all(abs(column - middle) < 1.3 * face.half_width for column in columns)
    assert bool(len(columns)) == (-30 < middle < 126)


def test_the_step_draws_with_its_probability():
    step = Pipeline([{"drawn_mask": {"p": 0.7}}])
    changed = [not np.array_equal(step(IMAGE, (0, 0, row)), IMAGE) for row in range(200)]
    assert abs(np.mean(changed) - 0.7) < 0.1  # more once in 500 times; the seeds are fixed
