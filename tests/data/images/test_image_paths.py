"""Listed images are found within their folder, and nothing outside of it."""

from pathlib import Path

import pytest

from data.images.find import image_paths
from data.runtime.errors import InputError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    return tmp_path / "images"


def test_images_within_the_folder_are_found(images: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b.jpg", "..c.jpg"):
        (images / name).touch()
    (images / "link.jpg").symlink_to(images / "a.jpg")
    (tmp_path / "linked").symlink_to(images)
    ids = ["sub/b.jpg", "a.jpg", "link.jpg", "..c.jpg"]
    for folder in (images, tmp_path / "linked"):
        assert image_paths(folder, ids) == [str(folder / name) for name in ids]
    assert image_paths(images, ["gone.jpg"], missing_ok=True) == [str(images / "gone.jpg")]
    with pytest.raises(InputError, match="none: no such folder"):
        image_paths(tmp_path / "none", ["a"])


def test_all_ids_that_leave_the_folder_or_have_no_file_are_named_at_once(images: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.touch()
    (images / "good.jpg").touch()
    (images / "out.jpg").symlink_to(secret)
    (images / "up").symlink_to(tmp_path)
    (images / "circle.jpg").symlink_to(images / "circle.jpg")
    wrong = {
        str(secret): "is an absolute path",
        "C:\\x.jpg": "is an absolute path",
        "\\x.jpg": "is an absolute path",
        "C:x.jpg": "names a drive",
        "file:///x.jpg": "is a URL",
        "../secret.jpg": "contains '..'",
        "sub/../good.jpg": "contains '..'",
        "..\\secret.jpg": "contains '..'",
        "out.jpg": "leads out of the folder through a link",
        "up/secret.jpg": "leads out of the folder through a link",
        "gone.jpg": "no such file",
        "sub": "no such file",
        "nul\0.jpg": "contains a NUL character",
        "circle.jpg": "",
        "x" * 5000: "",
    }
    with pytest.raises(InputError) as caught:
        image_paths(images, ["good.jpg", *wrong])
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{images}: 15 of 16 listed images cannot be used"
    for line, (name, reason) in zip(lines[1:], wrong.items(), strict=True):
        assert line.startswith(f"  ImageID={name!r}: {reason}")
