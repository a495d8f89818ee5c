"""The bench on scenes: faces stand whole within them, and answers are judged by the photographs' own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.scenes import HEIGHT, SHARES, WIDTH, macro_f1, make_scenes
from data.images.decode import decode
from ensemble.files.submission import write_submission


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three photographs of one bright colour, two of them of one stem, and their answers."""
    (tmp_path / "eval" / "images" / "below").mkdir(parents=True)
    for name in ("a.png", "a.jpg", "below/c.png"):
        Image.new("RGB", (96, 128), (255, 0, 255)).save(tmp_path / "eval" / "images" / name)
    write_submission(tmp_path / "eval" / "answers.csv", ["a.png", "a.jpg", "below/c.png"], [0, 7, 17])
    return tmp_path / "eval"


def test_a_photograph_stands_whole_in_its_scene_and_chance_is_the_seed_s(
    photographs: Path, tmp_path: Path
) -> None:
    names = make_scenes(photographs, tmp_path / "first", 0, None)
    assert names == {"000000.jpg": "a.jpg", "000001.jpg": "a.png", "000002.jpg": "below/c.png"}
    assert sorted(names) == sorted(path.name for path in (tmp_path / "first" / "images").iterdir())
    make_scenes(photographs, tmp_path / "again", 0, None)
    make_scenes(photographs, tmp_path / "other", 1, None)
    for scene in names:
        pixels = decode(tmp_path / "first" / "images" / scene)
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        rows, columns = np.nonzero((pixels[..., 0] > 240) & (pixels[..., 1] < 20) & (pixels[..., 2] > 240))
        high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert SHARES[0] * HEIGHT - 4 <= high <= SHARES[1] * HEIGHT + 4
        assert wide / high == pytest.approx(96 / 128, abs=0.05)
        assert np.array_equal(pixels, decode(tmp_path / "again" / "images" / scene))
        assert not np.array_equal(pixels, decode(tmp_path / "other" / "images" / scene))


def test_scenes_are_judged_by_the_answers_of_their_photographs(photographs: Path, tmp_path: Path) -> None:
    names = make_scenes(photographs, tmp_path / "scenes", 0, 2)
    write_submission(tmp_path / "right.csv", ["000000.jpg", "000001.jpg"], [7, 0])
    write_submission(tmp_path / "half.csv", ["000000.jpg", "000001.jpg"], [7, 1])
    right = macro_f1(tmp_path / "right.csv", photographs / "answers.csv", names)
    assert right["joint"] == pytest.approx(2 / 18)  # absent classes count as 0
    assert right["gender"] == 0.5  # both photographs are of class 0
    half = macro_f1(tmp_path / "half.csv", photographs / "answers.csv", names)
    assert (half["joint"], half["mask"]) == (pytest.approx(1 / 18), right["mask"])
