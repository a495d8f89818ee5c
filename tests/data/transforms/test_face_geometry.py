"""Where the face is taken to be, and how much face_region it is shown."""

import numpy as np
import pytest

from data.transforms.face_geometry import (
    Face,
    aligned_face,
    face_of_box,
    face_of_landmarks,
    face_region,
    smallest_region,
)


def test_a_face_from_a_box_lies_within_it():
    face = face_of_box(10, 20, 50, 70)
    assert face.middle == 30
    assert 20 < face.eyes < face.mouth < 70
    assert face.half_width == pytest.approx(19.2)


def test_square_crops_are_taken_as_closer_than_portraits():
    portrait, square = aligned_face(128, 96), aligned_face(96, 96)
    assert square.half_width > portrait.half_width
    assert square.unit > portrait.unit


def test_a_face_from_landmarks_lies_where_they_are():
    landmarks = np.array([[30.0, 50], [70, 50], [50, 65], [35, 80], [65, 80]])
    assert face_of_landmarks(landmarks) == Face(middle=50.0, eyes=50.0, mouth=80.0, half_width=40.0)


@pytest.mark.parametrize("margin", [0.8, 1.0, 1.2])
@pytest.mark.parametrize(("height", "width"), [(256, 192), (144, 144), (185, 144), (96, 128)])
def test_what_lies_around_a_face_holds_it_and_at_least_the_least_shares(
    height: int, width: int, margin: float
) -> None:
    face = aligned_face(height, width)
    rows, columns = face_region(face, height, width, margin)
    assert 0 <= rows.start < face.eyes < face.mouth < rows.stop <= height
    assert columns.start <= face.middle - 0.9 * face.half_width
    assert columns.stop >= face.middle + 0.9 * face.half_width
    assert columns.start + columns.stop == pytest.approx(width, abs=1)
    least = smallest_region(margin)
    assert rows.stop - rows.start >= least[0] * height - 1
    assert columns.stop - columns.start >= least[1] * width - 1


def test_faces_are_about_as_large_in_crops_of_portraits_and_of_close_ones():
    shares = []
    for height, width in ((256, 192), (144, 144)):
        face = aligned_face(height, width)
        rows, columns = face_region(face, height, width)
        shares.append((face.unit / (rows.stop - rows.start), face.half_width / (columns.stop - columns.start)))
    (tall, wide), (close_tall, close_wide) = shares
    assert wide == pytest.approx(close_wide, rel=0.2)
    assert tall == pytest.approx(close_tall, rel=0.35)
