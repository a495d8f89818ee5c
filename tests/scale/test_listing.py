"""Listings by any way of reading are the same ids, split_listing into parts; wrong ones are refused row by row."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from data.images.find import list_images
from data.runtime.errors import InputError

pytestmark = pytest.mark.scale
IDS = [f"{number:02}.jpg" for number in range(10)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_listing_is_cut_in_its_order(tmp_path: Path, kind: str) -> None:
    from ensemble.cluster.listing import read_piece, split_listing

    table = pd.DataFrame({"ans": range(10), "ImageID": IDS[::-1]})
    path = tmp_path / f"list.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    assert split_listing(str(path), str(tmp_path / "pieces"), 4) == [4, 4, 2]
    assert [name for part in range(3) for name in read_piece(str(tmp_path / "pieces"), part)] == IDS[::-1]


def test_ids_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    from ensemble.cluster.listing import read_ids

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
    from ensemble.cluster.listing import split_listing

    ids, told = BAD[kind]
    path = tmp_path / "list.csv"
    pd.DataFrame({"ImageID": ids}, dtype=str).to_csv(path, index=False)
    with pytest.raises(InputError) as caught:
        split_listing(str(path), str(tmp_path / "pieces"), 2)
    assert told in str(caught.value)


def test_a_folder_s_images_are_those_of_one_machine(tmp_path: Path) -> None:
    from ensemble.cluster.listing import find_listing, read_ids

    for name in ("images/b.jpg", "images/a.jpg", "c.png", "train/d.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for listing in (None, "ImageID\nb.jpg\na\n"):
        if listing is not None:
            (tmp_path / "info.csv").write_text(listing)
        ids, folder = list_images(tmp_path)
        found, images = find_listing(str(tmp_path))
        assert (list(read_ids(found)), Path(images)) == (ids, folder)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("columns", [["name"], ["ImageID", "ImageID"]])
def test_a_listing_without_its_column_or_with_two_is_refused(tmp_path: Path, kind: str, columns: list[str]) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    from ensemble.cluster.listing import split_listing

    path = str(tmp_path / f"list.{kind}")
    table = pa.table([pa.array(["a"])] * len(columns), names=columns)
    csv.write_csv(table, path) if kind == "csv" else parquet.write_table(table, path)
    with pytest.raises(InputError) as caught:
        split_listing(path, str(tmp_path / "pieces"), 2)
    told = f"{path}: columns {', '.join(columns)}; expected ImageID once, one row per image"
    assert str(caught.value) == told


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    from ensemble.cluster.listing import split_listing

    for name in ("empty.csv", "empty.parquet"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match="expected a column ImageID, one row per image"):
            split_listing(str(tmp_path / name), str(tmp_path / "pieces"), 2)


def test_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    from ensemble.cluster.parts import make_image_reader

    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "private.png")
    (images / "out.png").symlink_to(tmp_path / "private.png")
    Image.new("RGB", (4, 4)).save(images / "in.png")
    read = make_image_reader(str(images))
    assert read("in.png").shape == (4, 4, 3)
    for name, told in (("out.png", "leads out of the folder through a link"), ("none.png", "no such file")):
        with pytest.raises(InputError, match=f"{images / name}: {told}"):
            read(name)
