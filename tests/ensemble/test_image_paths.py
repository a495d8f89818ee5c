"""Listed images are found within their folder, and nothing outside of it."""

import os
from pathlib import Path

import pytest

from data.errors import InputError
from ensemble.image_paths import image_paths, listed_images


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
    assert lines[0] == f"{images}: 12 of 13 listed images cannot be used"
    for line, (name, reason) in zip(lines[1:], wrong.items(), strict=True):
        assert line.startswith(f"  ImageID={name!r}: {reason}")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such folder"):
        image_paths(tmp_path / "none", ["a"])


def test_a_folder_without_a_listing_is_one_of_images(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("c.PNG", "b/a.jpg", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")  # for whoever opens it to tell
    assert listed_images(tmp_path) == (["b/a.jpg", "c.PNG", "gone.jpg"], tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"info\.csv: cannot be read"):
        listed_images(tmp_path)  # a listing that was forgotten
    (tmp_path / "info.csv").write_text("ImageID\nx.jpg\n")
    assert listed_images(tmp_path) == (["x.jpg"], tmp_path / "images")


def test_no_folder_no_image_and_names_that_no_csv_can_hold_are_told(tmp_path: Path) -> None:
    for folder, told in ((tmp_path / "none", "none: no such folder"), (tmp_path, "found no image")):
        with pytest.raises(InputError, match=f"{told}, expected a folder of images"):
            listed_images(folder)
    (tmp_path / os.fsdecode(b"\xe9.jpg")).touch()
    with pytest.raises(InputError, match=r"names that are not UTF-8, expected others\n.*udce9"):
        listed_images(tmp_path)
