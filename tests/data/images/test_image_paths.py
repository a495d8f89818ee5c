"""Listed images are found within their folder, and nothing outside of it."""

from pathlib import Path

import pytest

from data.runtime.errors import InputError
from data.images.find import image_paths


def test_images_within_the_folder_are_found(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jpg", "..c.jpg"):
        (images / name).touch()
    (images / "link.jpg").symlink_to(images / "a.jpg")
    (tmp_path / "linked").symlink_to(images)
    ids = ["sub/b.jpg", "a.jpg", "link.jpg", "..c.jpg"]
    assert list(image_paths(images, ids)) == [images / name for name in ids]
    assert list(image_paths(tmp_path / "linked", ids)) == [tmp_path / "linked" / name for name in ids]


def test_all_ids_that_leave_the_folder_or_have_no_file_are_told_at_once(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
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


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such folder"):
        image_paths(tmp_path / "none", ["a"])
