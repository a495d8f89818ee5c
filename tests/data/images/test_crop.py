"""Boxes out of a CSV, and images cropped to them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.images.crop import CroppedReader, crop, make_reader, read_boxes
from data.images.decode import decode
from data.images.pixel_cache import make_cached_reader
from data.runtime.errors import InputError

HEADER = "path,x0,y0,x1,y1,score\n"
PIXELS = np.arange(100 * 80 * 3, dtype=np.uint8).reshape(100, 80, 3)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """An image of 80 x 100 pixels and its boxes: two faces, the smaller one first."""
    (tmp_path / "images").mkdir()
    for name in ("two.png", "none.png", "unlisted.png"):
        Image.fromarray(PIXELS).save(tmp_path / "images" / name)
    rows = "images/two.png,5,5,10,10,0.9\nimages/two.png,20,40,40,60,0.7\nimages/none.png,,,,,\n"
    (tmp_path / "boxes.csv").write_text(HEADER + rows)
    return tmp_path


def test_the_margin_is_that_of_portraits_and_ends_at_the_edges() -> None:
    assert np.array_equal(crop(PIXELS, (20, 40, 40, 60, 1), 0), PIXELS[40:60, 20:40])
    assert np.array_equal(crop(PIXELS, (20, 40, 40, 60, 1)), PIXELS[30:65, 13:47])
    assert np.array_equal(crop(PIXELS, (0, 0, 78, 95, 1)), PIXELS)
    assert np.array_equal(crop(PIXELS, (200, 0, 300, 50, 1)), PIXELS)  # of another image


def test_images_are_cropped_to_the_largest_face_and_stay_whole_without_one(scene: Path) -> None:
    read = CroppedReader(scene / "boxes.csv", 0)
    images = [scene / "images" / name for name in ("two.png", "none.png", "unlisted.png")]
    for image, expected in zip(images, (PIXELS[40:60, 20:40], PIXELS, PIXELS), strict=True):
        assert np.array_equal(read(image), expected)
    assert read.summary(images).endswith("(1 with several: the largest); whole: 1 without a face, 1 not listed")
    assert make_reader(None, 1) is decode


def test_bad_files_are_refused_with_all_rows(scene: Path) -> None:
    file = scene / "own.csv"
    file.write_text(f"path,x0,y0,x1,y1\n{scene / 'images' / 'two.png'},1,2,3,4\n")
    assert read_boxes(file) == {str(scene / "images" / "two.png"): [(1, 2, 3, 4, 1)]}, "a score may be missing"
    file.write_text("path, x0, y0, x1, y1\n b.png , 1, 2, 3, 4\nb.png, , , , \n")
    assert read_boxes(file) == {str(scene / " b.png "): [(1, 2, 3, 4, 1)], str(scene / "b.png"): []}
    rows = ["a.png,3,0,2,5,1", "a.png,0,0,nan,5,1", "a.png,0,,2,5,1", "a.png,x,0,2,5,1", "a.png,0,0,2,2,1"]
    file.write_text(HEADER + "\n".join(rows) + "\n")
    with pytest.raises(InputError) as raised:
        read_boxes(file)
    lines = str(raised.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["row 2", "row 3", "row 4", "row 5"]
    with pytest.raises(InputError, match="--box-margin -1: expected 0 to 10"):
        make_reader(None, -1)


def test_caches_of_other_crops_are_other_caches(scene: Path) -> None:
    place = scene / "images" / "two.png"
    table = pd.DataFrame({"source": str(scene), "path": [str(place)]})
    read = CroppedReader(scene / "boxes.csv", 0)
    cropped = make_cached_reader(scene / "cache", table, (100, 100), 10**6, 1, read, read.digest)
    whole = make_cached_reader(scene / "cache", table, (100, 100), 10**6, 1)
    assert cropped(place).shape == (20, 20, 3)  # smaller than the working size: as it is
    assert whole(place).shape == (100, 80, 3)
    assert CroppedReader(scene / "boxes.csv", 1).digest != read.digest
