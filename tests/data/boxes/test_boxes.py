"""python -m data.boxes: its CSV files, searches that were stopped, and its detector on real faces."""

import csv
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from data.annotations.table import read_table
from data.boxes import __main__ as boxes
from data.boxes import search
from data.boxes.detector import CenterFace, weights_path
from data.images.crop import read_boxes
from data.images.decode import decode
from data.runtime.errors import InputError

SHARED = Path(__file__).parents[4] / "shared" / "faces18" / "base"


class BrightSpots:
    """Replaces the detector: every row of white pixels is a face as wide as it."""

    before: Callable[[int], object] = staticmethod(lambda count: None)  # called with the number of earlier images

    def __init__(self, *arguments):
        self.count = 0

    def __call__(self, pixels):
        self.before(self.count)
        self.count += 1
        rows = np.flatnonzero((pixels == 255).all(axis=2).any(axis=1))
        found = [(0, y, (pixels[y] == 255).all(axis=1).sum(), y + 1, 0.75) for y in rows]
        return np.array(sorted(found, key=lambda box: -box[2]), dtype=np.float32).reshape(-1, 5)


@pytest.fixture
def run(call, monkeypatch, heeds_sigint):
    """Call the command with `BrightSpots` as its detector."""
    monkeypatch.setattr("data.boxes.detector.CenterFace", BrightSpots)
    monkeypatch.setattr("data.boxes.detector.weights_path", lambda: None)
    return lambda data, out, *more: call(boxes, "--data", data, "--out", out, "--processes", 1, *more)


def draw(path, widths):
    pixels = np.zeros((20, 30, 3), np.uint8)
    for place, width in enumerate(widths):
        pixels[4 * place, :width] = 255
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(path, "PNG")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_boxes_are_written_unclear_images_listed_and_known_ones_skipped(tmp_path, run):
    images, out = tmp_path / "images", tmp_path / "boxes.csv"
    for name, widths in (("a one.png", [7]), ("b.png", [3, 9]), ("c.png", [])):
        draw(images / name, widths)
    (images / "d.jpg").write_text("no image")
    (tmp_path / "info.csv").write_text("ImageID\na one.png\nb.png\nc.png\nd.jpg\n")
    summary = "1 without a face (shown whole), 1 with several (the largest is taken), 1 that cannot be decoded"
    assert summary in run(tmp_path, out).out
    assert rows(out) == [
        ["path", "x0", "y0", "x1", "y1", "score", "threshold"],
        ["images/a one.png", "0.0", "0.0", "7.0", "1.0", "0.750", "0.5"],
        ["images/b.png", "0.0", "4.0", "9.0", "5.0", "0.750", "0.5"],
        ["images/b.png", "0.0", "0.0", "3.0", "1.0", "0.750", "0.5"],
        ["images/c.png", "", "", "", "", "", "0.5"],
    ]
    unclear = rows(tmp_path / "boxes.unclear.csv")
    assert [row[0].rpartition("/")[2] for row in unclear] == ["path", "b.png", "c.png", "d.jpg"]
    assert [unclear[1][1], unclear[2][1]] == ["2 faces: the largest is taken", "no face: shown whole"]
    assert "not an image" in unclear[3][1]
    first = out.read_bytes()
    draw(images / "b.png", [1])  # searched again, it would have another box
    draw(images / "e.png", [5])
    with (tmp_path / "info.csv").open("a") as listing:
        listing.write("e.png\n")
    assert "5 images, 2 of them searched now" in run(tmp_path, out).out  # the new one and the broken one
    assert out.read_bytes() == first + b"images/e.png,0.0,0.0,5.0,1.0,0.750,0.5\n"


def test_labels_name_images_too_and_each_is_searched_once(tmp_path, faces):
    images = tmp_path / "images"
    draw(images / "a", [7])
    draw(tmp_path / "b.png", [7])
    (tmp_path / "labels.csv").write_text("path,mask\na,wear\n")
    expected = [str(images / "a"), str(tmp_path / "b.png")]
    assert search.list_images_of([tmp_path]) == expected
    assert search.list_images_of([tmp_path / "labels.csv"]) == expected[:1]
    draw(images / "c.png", [7])
    assert search.list_images_of([tmp_path, images]) == [*expected, str(images / "c.png")]
    shutil.rmtree(images)  # then the file labels nothing here
    assert search.list_images_of([tmp_path]) == expected[1:]
    assert search.list_images_of([faces / "train"]) == read_table([faces / "train"])["path"].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "1"], "--threshold 1, --out {}/boxes.csv: expected a threshold between 0 and 1"),
        (["--out", "boxes.txt"], "--out boxes.txt: expected a threshold between 0 and 1, and the name of a file.csv"),
        ([], "names that are not UTF-8"),
    ],
)
def test_wrong_input_is_refused_before_any_work(tmp_path, run, options, message):
    draw(tmp_path / "mine" / os.fsdecode(b"\xe9") / "a.png", [7])
    outcome = run(tmp_path / "mine", tmp_path / "boxes.csv", *options)
    assert outcome.code == 2
    assert message.format(tmp_path) in outcome.err
    assert not (tmp_path / "boxes.csv").exists()


@pytest.fixture
def many(tmp_path, monkeypatch):
    """60 images, of which 5 are searched together and at most 10 lost by a kill."""
    monkeypatch.setattr(search, "CHUNK", 5)
    monkeypatch.setattr(search, "EVERY", 10)
    for number in range(60):
        draw(tmp_path / "many" / f"{number:02}.png", [1 + number % 9] * (number % 3))
    return tmp_path / "many"


def test_a_file_is_of_one_threshold(many, run):
    out = many.parent / "boxes.csv"
    draw(many / "first" / "a.png", [7])
    run(many / "first", out, "--threshold", 0.25)
    before = out.read_bytes()
    assert run(many / "first", out).code == 2
    outcome = run(many, out)
    assert outcome.code == 2
    assert f"{out}: found with --threshold 0.25, expected 0.5 as now" in outcome.err
    assert out.read_bytes() == before
    assert "61 images, 60 of them searched now" in run(many, out, "--threshold", 0.25).out
    out.write_text("path,x0,y0,x1,y1\nmany/00.png,1,2,3,4\n")  # of another program, which names none
    assert "61 images, 60 of them searched now" in run(many, out).out
    assert out.read_text().startswith("path,x0,y0,x1,y1,score\nmany/00.png,1.0,2.0,3.0,4.0,1.000\n")


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM, RuntimeError])
def test_an_interrupted_search_continues_to_the_same_boxes(many, run, monkeypatch, interruption):
    def interrupt(count):
        if count == 37 and interruption is RuntimeError:
            raise interruption("the detector fails")
        if count == 37:
            os.kill(os.getpid(), interruption)

    out, whole = many.parent / "boxes.csv", many.parent / "whole.csv"
    run(many, whole)
    with patch.object(BrightSpots, "before", staticmethod(interrupt)):
        outcome = run(many, out)
    assert outcome.code == (1 if interruption is RuntimeError else 128 + interruption)
    saved = f"{out} has what was found in 35 of 60 images; the same command goes on"
    assert (saved in outcome.err) == (outcome.code > 1)
    assert len(read_boxes(out)) == 35
    run(many, out)
    assert out.read_bytes() == whole.read_bytes()


def test_two_searches_do_not_write_one_file(many, run, held_elsewhere):
    out = many.parent / "boxes.csv"
    with held_elsewhere(many.parent / ".boxes.csv.lock") as other:
        outcome = run(many, out)
    assert outcome.code == 2
    assert f"{out} is in use by process {other} on " in outcome.err


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real images here")
def test_a_real_face_is_found_where_it_was_pasted():
    try:
        detector = CenterFace(weights_path())
    except InputError:
        pytest.skip("requirements-boxes.txt is not installed")
    assert detector(np.zeros((50, 40, 3), np.uint8)).shape == (0, 5)
    for path in sorted(SHARED.iterdir())[:4]:
        face = decode(path)
        height, width = face.shape[:2]
        scene = np.full((height * 2, width * 3, 3), 90, np.uint8)
        scene[height // 2 : height // 2 + height, width : 2 * width] = face
        alone, within = detector(face), detector(scene)
        moved = within[0, :4] - [width, height // 2, width, height // 2]
        assert len(within) == 1
        assert np.abs(moved - alone[0, :4]).max() < 0.1 * max(height, width)
