"""Which images of a folder are predicted, by the one rule of all programs; names that lead out of it."""

import os
from pathlib import Path

import pytest

from data.images.find import find_images, image_paths, list_image_paths, list_images, read_listing
from data.runtime.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("names", [["b/a.jpg", "c.PNG"], ["images/a.jpg"], ["a.jpg", "train/images/p/b.jpg"]])
def test_a_folder_without_a_listing_is_one_of_images(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, *names, "labels.csv", "notes.txt", ".hidden.jpg", ".thumbnails/a.jpg")
    assert list_images(tmp_path) == (names, tmp_path)
    assert list_image_paths(tmp_path) == [str(tmp_path / name) for name in names]


def test_only_the_images_of_a_listing_are_predicted(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "images/c", "d.jpg")
    (tmp_path / "info.csv").write_text("ImageID,ans\nc,0\nb.jpg,0\ngone.jpg,0\n")
    names = ["c", "b.jpg", "gone.jpg"]
    assert list_images(tmp_path) == (names, tmp_path / "images")
    assert list_image_paths(tmp_path) == [str(tmp_path / "images" / name) for name in names]
    (tmp_path / "info.csv").write_text("ImageID\na.jpg\n../d.jpg\n/etc/passwd\n")
    with pytest.raises(InputError) as caught:
        list_image_paths(tmp_path)
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'images'}: images that cannot be used",
        "  ImageID='../d.jpg': contains '..', expected a path that stays within the folder",
        "  ImageID='/etc/passwd': is an absolute path, expected one relative to the folder",
    ]


def test_a_listing_keeps_its_ids_as_text_and_all_bad_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "info.csv"
    path.write_bytes('\ufeffans,ImageID\r\n0,"007"\r\n0,"two\nlines.jpg"\r\n0,"a,""b"".jpg"\r\n0,NA\r\n'.encode())
    assert read_listing(path) == ["007", "two\nlines.jpg", 'a,"b".jpg', "NA"]
    path.write_text("ImageID,ans\na.jpg,0\n,0\na.jpg,0\nb.jpg,0\n ,0\n")
    with pytest.raises(InputError) as caught:
        read_listing(path)
    assert str(caught.value).splitlines()[1:] == [
        "  row 3: ImageID is empty",
        "  row 6: ImageID is empty",
        "  rows 2, 4: ImageID='a.jpg' is there 2 times, expected once",
    ]


def test_a_bad_listing_is_refused_and_not_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "info.parquet")
    with pytest.raises(InputError, match=r"info\.parquet: .* \(python -m ensemble\.cluster\), expected info\.csv"):
        list_images(tmp_path)
    (tmp_path / "info.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(InputError, match=r"info\.csv: cannot be read"):
        list_images(tmp_path)


def test_no_folder_no_image_and_names_that_no_csv_can_hold_are_refused(tmp_path: Path) -> None:
    for folder, problem in ((tmp_path / "none", "none: no such folder"), (tmp_path, "found no image")):
        with pytest.raises(InputError, match=f"{problem}, expected a folder of images"):
            list_images(folder)
    for name, found in ((os.fsdecode(b"\xe9.jpg"), "udce9"), ("a\rb.jpg", r"a\\rb")):
        touch(tmp_path, name)
        with pytest.raises(InputError, match=rf"not UTF-8 or have a carriage return, expected others\n.*{found}"):
            list_images(tmp_path)
        (tmp_path / name).unlink()


def test_links_are_followed_but_not_in_circles_and_broken_ones_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/sub/b.jpg", "out/c.jpg", "out/deep/d.jpg", "far/e.jpg", "far/f/g.jpg")
    folder = tmp_path / "in"
    links = {"self": ".", "sub/up": "..", "root": "/", "linked": "../out/deep", "circle.jpg": "circle.jpg"}
    links |= {"gone.jpg": tmp_path / "nowhere.jpg", ".hidden": tmp_path / "far", "far": tmp_path / "far"}
    links |= {"../out/deep/back": folder, "../out/deep/above": ".."}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    expected = ["a.jpg", "circle.jpg", "far/e.jpg", "far/f/g.jpg", "gone.jpg", "linked/d.jpg", "sub/b.jpg"]
    assert find_images(folder) == expected
    (tmp_path / "way").symlink_to(folder)
    assert find_images(tmp_path / "way") == expected


def test_listed_images_are_found_within_the_folder_and_nothing_outside_of_it(tmp_path: Path) -> None:
    folder = touch(tmp_path / "images", "a.jpg", "sub/b.jpg", "..c.jpg", "../secret.jpg")
    for name, target in {"link.jpg": "a.jpg", "out.jpg": "../secret.jpg", "up": "..", "o.jpg": "o.jpg"}.items():
        (folder / name).symlink_to(target)
    ids = ["sub/b.jpg", "a.jpg", "link.jpg", "..c.jpg"]
    assert image_paths(folder, ids) == [str(folder / name) for name in ids]
    assert image_paths(folder, ["gone.jpg"], missing_ok=True) == [str(folder / "gone.jpg")]
    wrong = dict.fromkeys((str(tmp_path / "secret.jpg"), "\\a.jpg", "C:\\a.jpg"), "is an absolute path")
    wrong |= dict.fromkeys(("sub/../a.jpg", "..\\secret.jpg"), "contains '..'")
    wrong |= {"C:a.jpg": "names a drive", "s3://b/a.jpg": "is a URL", "a\0.jpg": "contains a NUL character"}
    wrong |= dict.fromkeys(("out.jpg", "up/secret.jpg"), "leads out of the folder through a link")
    wrong |= {"gone.jpg": "no such file", "sub": "no such file", "o.jpg": "", "x" * 5000: ""}
    with pytest.raises(InputError) as caught:
        image_paths(folder, ["a.jpg", *wrong])
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{folder}: 14 of 15 listed images cannot be used"
    for line, (name, reason) in zip(lines[1:], wrong.items(), strict=True):
        assert line.startswith(f"  ImageID={name!r}: {reason}")
