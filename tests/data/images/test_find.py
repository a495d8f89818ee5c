"""Which of a folder's images are answered, by the one rule of all programs; names that lead out of it."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from data.images.find import find_images, list_image_paths, list_images
from data.runtime.errors import InputError
from data.runtime.files import unsafe_reason


def touch(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "names",
    [
        ["b/a.jpg", "c.PNG"],
        ["images/a.jpg"],
        ["a.jpg", "train/b.jpg"],
        ["eval/images/a.jpg", "train/images/000001_male_Asian_20/normal.jpg"],
    ],
)
def test_a_folder_without_a_listing_is_one_of_images(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, [*names, "labels.csv", "notes.txt", ".hidden.jpg", ".thumbnails/a.jpg"])
    assert list_images(tmp_path) == (names, tmp_path)
    assert list_image_paths(tmp_path) == [str(tmp_path / name) for name in names]


def test_a_file_named_as_the_folder_of_images_is_none(tmp_path: Path) -> None:
    touch(tmp_path, ["a.jpg", "images"])
    assert list_images(tmp_path) == (["a.jpg"], tmp_path)


def test_a_listing_alone_says_which_are_answered(tmp_path: Path) -> None:
    touch(tmp_path, ["images/a.jpg", "images/b.jpg", "images/c", "d.jpg"])
    (tmp_path / "info.csv").write_text("ImageID,ans\nc,0\nb.jpg,0\ngone.jpg,0\n")
    assert list_images(tmp_path) == (["c", "b.jpg", "gone.jpg"], tmp_path / "images")
    assert list_image_paths(tmp_path) == [
        str(tmp_path / "images" / name) for name in ("c", "b.jpg", "gone.jpg")
    ]
    (tmp_path / "info.csv").write_text("ImageID\na.jpg\n../d.jpg\n/etc/passwd\n")
    with pytest.raises(InputError) as caught:
        list_image_paths(tmp_path)
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'images'}: images that cannot be used",
        "  ImageID='../d.jpg': contains '..', expected a path that stays within the folder",
        "  ImageID='/etc/passwd': is an absolute path, expected one relative to the folder",
    ]


def test_a_listing_that_cannot_be_read_is_told_and_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, ["images/a.jpg"])
    (tmp_path / "info.parquet").touch()
    with pytest.raises(
        InputError, match=r"info\.parquet: .*python -m ensemble\.cluster.*, expected info\.csv here"
    ):
        list_images(tmp_path)
    (tmp_path / "info.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(InputError, match=r"info\.csv: cannot be read"):
        list_images(tmp_path)
    (tmp_path / "info.csv").unlink()
    (tmp_path / "info.csv").write_text("name\na.jpg\n")
    with pytest.raises(InputError, match=r"info\.csv:1: columns name; expected ImageID once"):
        list_images(tmp_path)
    (tmp_path / "info.csv").write_text("ImageID\na.jpg\n")
    assert list_images(tmp_path)[0] == ["a.jpg"]  # which a cluster prefers to the other listing as well


def test_no_folder_no_image_and_names_that_no_csv_can_hold_are_told(tmp_path: Path) -> None:
    for folder, told in ((tmp_path / "none", "none: no such folder"), (tmp_path, "found no image")):
        with pytest.raises(InputError, match=f"{told}, expected a folder of images"):
            list_images(folder)
    for name, found in ((os.fsdecode(b"\xe9.jpg"), "udce9"), ("a\rb.jpg", r"a\\rb")):
        (tmp_path / name).touch()
        with pytest.raises(
            InputError, match=rf"not UTF-8 or have a carriage return, expected others\n.*{found}"
        ):
            list_images(tmp_path)
        (tmp_path / name).unlink()


def test_links_are_followed_and_dead_ones_listed(tmp_path: Path) -> None:
    touch(tmp_path, ["in/a.jpg", "out/b.jpg", "out/deep/c.jpg"])
    looked = tmp_path / "in"
    (looked / "linked").symlink_to(tmp_path / "out")
    (looked / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")  # for whoever opens them to tell
    (looked / "circle.jpg").symlink_to("circle.jpg")
    (looked / ".hidden").symlink_to(tmp_path / "out")
    expected = ["a.jpg", "circle.jpg", "gone.jpg", "linked/b.jpg", "linked/deep/c.jpg"]
    assert find_images(looked) == expected
    (tmp_path / "way").symlink_to(looked)
    assert find_images(tmp_path / "way") == expected


def test_links_that_lead_round_end(tmp_path: Path) -> None:
    touch(tmp_path, ["in/a.jpg", "in/sub/b.jpg", "out/c.jpg", "out/deep/d.jpg"])
    looked = tmp_path / "in"
    (looked / "self").symlink_to(".")
    (looked / "sub" / "up").symlink_to("..")
    (looked / "root").symlink_to("/")
    (looked / "linked").symlink_to(tmp_path / "out" / "deep")
    (tmp_path / "out" / "deep" / "back").symlink_to(looked)
    (tmp_path / "out" / "deep" / "above").symlink_to("..")
    assert find_images(looked) == ["a.jpg", "linked/d.jpg", "sub/b.jpg"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a/b.jpg", ""),
        ("..c.jpg", ""),
        ("/a.jpg", "is an absolute path"),
        ("\\a.jpg", "is an absolute path"),
        ("C:\\a.jpg", "is an absolute path"),
        ("C:a.jpg", "names a drive"),
        ("s3://bucket/a.jpg", "is a URL"),
        ("a/../b.jpg", "contains '..'"),
        ("..\\a.jpg", "contains '..'"),
        ("a\0.jpg", "contains a NUL character"),
    ],
)
def test_why_a_name_leads_outside(name: str, why: str) -> None:
    assert unsafe_reason(name).partition(",")[0] == why
