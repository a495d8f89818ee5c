"""Listings by any way of reading are the same ids, cut into parts; wrong ones are refused row by row."""

from pathlib import Path

import pandas as pd
import pytest

from data.errors import InputError
from data.pictures import listed_images

pytestmark = pytest.mark.scale
IDS = [f"{number:02}.jpg" for number in range(10)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_listing_is_cut_in_its_order(tmp_path: Path, kind: str) -> None:
    from ensemble.listing import cut, ids_of

    table = pd.DataFrame({"ans": range(10), "ImageID": IDS[::-1]})
    path = tmp_path / f"list.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    assert cut(str(path), str(tmp_path / "pieces"), 4) == [4, 4, 2]
    assert [name for part in range(3) for name in ids_of(str(tmp_path / "pieces"), part)] == IDS[::-1]


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    from ensemble.listing import read_ids

    (tmp_path / "list.csv").write_text("ImageID\n007\n1e3\nNA\n")
    assert list(read_ids(str(tmp_path / "list.csv"))) == ["007", "1e3", "NA"]


BAD = {
    "doubled": (["a", "b", "a", "c"], "ImageID='a' is there 2 times, expected once"),
    "empty": (["a", " "], "image 2: ImageID=' ' is empty"),
    "out": (["../a"], "image 1: ImageID='../a' contains '..', expected a path that stays within the folder"),
    "elsewhere": (["/etc/passwd"], "is an absolute path, expected one relative to the folder"),
    "drive": (["C:a.jpg"], "names a drive"),
    "nul": (["a\0.jpg"], "contains a NUL character"),
    "url": (["file:///etc/passwd"], "is a URL"),
    "none": ([], "found no image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_wrong_listing_is_refused(tmp_path: Path, kind: str) -> None:
    from ensemble.listing import cut

    ids, told = BAD[kind]
    path = tmp_path / "list.csv"
    pd.DataFrame({"ImageID": ids}, dtype=str).to_csv(path, index=False)
    with pytest.raises(InputError) as caught:
        cut(str(path), str(tmp_path / "pieces"), 2)
    assert told in str(caught.value)


def test_a_folder_s_images_are_those_of_one_machine(tmp_path: Path) -> None:
    from ensemble.listing import find_listing, read_ids

    for name in ("images/b.jpg", "images/a.jpg", "c.png", "train/d.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for listing in (None, "ImageID\nb.jpg\na\n"):
        if listing is not None:
            (tmp_path / "info.csv").write_text(listing)
        ids, folder = listed_images(tmp_path)
        found, images = find_listing(str(tmp_path))
        assert (list(read_ids(found)), Path(images)) == (ids, folder)


def test_a_listing_without_its_column_is_refused(tmp_path: Path) -> None:
    from ensemble.listing import cut

    (tmp_path / "list.csv").write_text("name\na\n")
    with pytest.raises(InputError, match="expected a column ImageID"):
        cut(str(tmp_path / "list.csv"), str(tmp_path / "pieces"), 2)
