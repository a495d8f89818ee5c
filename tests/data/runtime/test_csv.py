"""CSV files as programs and people write them: read alike, or refused with file and line."""

from pathlib import Path

import pytest

from data.annotations.table import read_table
from data.images.find import read_listing
from data.runtime import files
from data.runtime.errors import InputError
from data.runtime.files import read_csv


def write(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


@pytest.mark.parametrize(
    "text",
    [
        "path,id,age\na.jpg,007,34\nb.jpg,010,\n",
        "\ufeffpath,id,age\r\na.jpg,007,34\r\nb.jpg,010,\r\n",
        '"path","id","age"\n"a.jpg","007","34"\n"b.jpg","010",""\n',
        "path,id,age\ra.jpg,007,34\rb.jpg,010,\r",
        "path,id,age\n\na.jpg,007,34\n\n\nb.jpg,010,",
        ",path,id,age\n0,a.jpg,007,34\n1,b.jpg,010,\n",
        " path , id , age \n a.jpg , 007 , 34 \n b.jpg , 010 , \n",
    ],
)
def test_dialects_are_read_alike_and_zeros_stay(text: str, tmp_path: Path) -> None:
    columns, rows, problems = read_csv(write(tmp_path, text))
    assert (columns, problems) == (["path", "id", "age"], [])
    expected = [{"path": "a.jpg", "id": "007", "age": "34"}, {"path": "b.jpg", "id": "010", "age": ""}]
    assert [values for _, values in rows] == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ImageID;age\na.jpg;34\n", ":1: columns separated by semicolons, expected commas; save it again with"),
        ("ImageID,age\n\na.jpg\n", ":3: 1 values, expected 2"),
        ("ImageID,age,ImageID\na.jpg,34,b.jpg\n", ":1: columns "),
        (b"", ":1: "),
        ('ImageID,age\n"a.jpg,34\n', ": not a CSV file in UTF-8"),
        ('ImageID,age\n"a".jpg,34\n', ": not a CSV file in UTF-8"),
        ("ImageID,age\n" + "a" * 200_000 + ",34\n", ": not a CSV file in UTF-8"),
        (b"ImageID,age\n\xffa.jpg,34\n", ": not a CSV file in UTF-8"),
        ("ImageID,age\n".encode("utf-16"), ": not a CSV file in UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00", ":1: "),
        ("ImageID\n" + "a\n" * 1001, ":1002: more rows than 1000, expected at most that many; split the file"),
    ],
)
def test_other_files_are_refused_by_every_reader(text, problem, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "MAX_ROWS", 1000)
    path = write(tmp_path, text, "labels.csv")
    for read in (read_listing, lambda path: read_table([path])):
        with pytest.raises(InputError) as refused:
            read(path)
        assert f"{path}{problem}" in str(refused.value)


def test_columns_that_are_not_asked_for_may_be_anything(tmp_path: Path) -> None:
    path = write(tmp_path, "x,x,,ImageID\n1,2,3, a.jpg \n")
    assert read_csv(path, ["ImageID"]) == (["ImageID"], [(2, {"ImageID": " a.jpg "})], [])
    assert read_csv(path, ["ImageID", "y"]).problems == [f"{path}:1: columns x, x, , ImageID; expected y once"]
    assert read_csv(path, ["ImageID"], ["y", "x"]).problems[0].endswith("expected x once")
