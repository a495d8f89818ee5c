"""CSV files as programs and people write them: read rightly, or refused with file and row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations.labels_csv import read_labels
from data.annotations.table import read_table
from data.images.find import read_listing
from data.runtime import csv_files
from data.runtime.csv_files import read_csv
from data.runtime.errors import InputError
from ensemble.files.submission import read_codes


def labels(tmp_path: Path, text: str | bytes, *files: str) -> Path:
    (tmp_path / "images").mkdir(exist_ok=True)
    for file in files:
        (tmp_path / "images" / file).touch()
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "path,id,age\na.jpg,007,34\nb.jpg,010,\n",
        "\ufeffpath,id,age\r\na.jpg,007,34\r\nb.jpg,010,\r\n",
        '"path","id","age"\n"a.jpg","007","34"\n"b.jpg","010",""\n',
        "path,id,age\ra.jpg,007,34\rb.jpg,010,\r",
        "path,id,age\n\na.jpg,007,34\n\n\nb.jpg,010,",
        ",path,id,age\n0,a.jpg,007,34.0\n1,b.jpg,010,\n",
        " path , id , age \n a.jpg , 007 , 034 \n b.jpg , 010 , \n",
    ],
    ids=["plain", "windows", "quoted", "old_mac", "blank_lines", "index", "blanks"],
)
def test_dialects_are_read_alike_and_zeros_are_kept(text: str, tmp_path: Path) -> None:
    labels(tmp_path, text, "a.jpg", "b.jpg")
    table = read_table([tmp_path])
    assert table["id"].tolist() == ["007", "010"]
    assert table["age"].fillna(-1).tolist() == [34.0, -1.0]


def test_a_quoted_line_break_belongs_to_its_value(tmp_path: Path) -> None:
    path = labels(tmp_path, 'path,note,age\na.jpg,"two\nlines",34\nb.jpg,x,3O\n', "a.jpg", "b.jpg")
    rows, problems = read_labels(path, [tmp_path / "images"])
    assert rows[0]["note"] == "two\nlines"
    [problem] = problems
    assert problem.startswith(f"{path}:4: age='3O', expected a whole number")


AGES = ["3O", "-1", "200", "NaN", "inf", "1e2", "\uff13\uff14", "34,5", "9" * 400, "0x22"]


@pytest.mark.parametrize("age", AGES)
def test_what_is_no_age_is_refused_with_file_and_row(age: str, tmp_path: Path) -> None:
    path = labels(tmp_path, f'path,age\na.jpg,"{age}"\n', "a.jpg")
    with pytest.raises(InputError) as refused:
        read_table([tmp_path])
    assert f"{path}:2: age={age!r}" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;age\na.jpg;34\n", "columns separated by semicolons, expected commas"),
        ("path,age\na.jpg,34,5\n", "labels.csv:2: 3 values, expected 2"),
        ("path,age\na.jpg\n", "labels.csv:2: 1 values, expected 2"),
        ("path,age,age\na.jpg,1,2\n", "columns age come twice"),
        ("age\n34\n", "columns age, expected one of path"),
        ("path,age\na.jpg,34\na.jpg,34\n", "labels.csv:3: path='a.jpg', is already on line 2"),
        ('path,age\n"a.jpg,34\n', "not a CSV file"),
        ("path,age\n" + "a" * 200_000 + ",34\n", "not a CSV file"),
        (b"path,age\n\xffa.jpg,34\n", "not a CSV file in UTF-8"),
        ("path,age\n".encode("utf-16"), "not a CSV file in UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00", "expected"),
        (b"", "no line with column names"),
        ("path,age\na\0.jpg,34\n", "labels.csv:2: path="),
        ("path,age\n" + "../" * 9 + "etc/passwd,34\n", "without '..' and not absolute"),
    ],
)
def test_what_is_no_table_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    labels(tmp_path, text, "a.jpg")
    with pytest.raises(InputError) as refused:
        read_table([tmp_path])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ImageID;ans\na.jpg;0\n", "columns separated by semicolons, expected commas"),
        ("ImageID,ans\na.jpg,0\na.jpg,0\n", "rows 2, 3: ImageID='a.jpg' is there 2 times"),
        ("ImageID,ImageID\na.jpg,0\n", "columns ImageID, ImageID; expected ImageID once"),
        ("ImageID,ans\n,0\n", "row 2: ImageID is empty"),
        ('ImageID,ans\n"a".jpg,0\n', "not a CSV file in UTF-8"),
        ("ImageID,ans\n", "no rows after the heading"),
        (b"ImageID,ans\n\xff,0\n", "not a CSV file in UTF-8"),
    ],
)
def test_a_listing_that_is_none_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "info.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as refused:
        read_listing(path)
    assert message in str(refused.value)


def test_a_listing_keeps_what_is_in_its_quotes(tmp_path: Path) -> None:
    path = tmp_path / "info.csv"
    path.write_bytes('\ufeffans,ImageID\r\n0,"007"\r\n0,"two\nlines.jpg"\r\n0,"a,""b"".jpg"\r\n'.encode())
    assert read_listing(path) == ["007", "two\nlines.jpg", 'a,"b".jpg']


@pytest.mark.parametrize("answer", ["18", "-1", "1.0", "", "NaN", "\uff11", "9" * 5000, "0x1"])
def test_an_answer_that_is_no_class_is_refused_with_its_row(answer: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"ImageID,ans\na.jpg,0\nb.jpg,{answer}\n")
    with pytest.raises(InputError, match=r"row 3: ans=.* expected a whole number from 0 to 17"):
        read_codes(tmp_path / "a.csv", 18)


@pytest.mark.parametrize("read", [lambda path: read_table([path.parent]), read_listing])
def test_more_rows_than_fit_are_refused_and_not_read(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "MAX_ROWS", 1000)
    path = labels(tmp_path, "ImageID\n" + "".join(f"{row}.jpg\n" for row in range(1001)))
    with pytest.raises(InputError, match=r"1002: more rows than 1000, expected at most that many; split"):
        read(path)


CELLS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["a.jpg", "34", "3O", "..", '"', ""]
)


@settings(max_examples=150, deadline=None)
@given(
    header=st.lists(st.sampled_from(["path", "age", "person", "id", "", "mask", "source"]) | CELLS, max_size=5),
    rows=st.lists(st.lists(CELLS, max_size=5), max_size=6),
    parting=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_any_table_is_read_or_its_problems_are_told(
    header: list[str], rows: list[list[str]], parting: str, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "tables"
    folder.mkdir(exist_ok=True)
    text = end.join(parting.join(cells) for cells in [header, *rows])
    path = labels(folder, text.encode("utf-8", "replace"), "a.jpg")
    names, lines, problems = read_csv(path)
    assert all(set(values) == set(names) for _, values in lines)
    assert all(str(path) in problem for problem in problems)
    found, problems = read_labels(path, [folder / "images"])
    assert problems or all(Path(str(row["path"])).is_file() for row in found)
    for read in (lambda: read_table([folder]), lambda: read_codes(path, 18), lambda: read_listing(path)):
        try:
            read()
        except InputError as error:
            assert str(error)  # noqa: PT017 (an error is one of two right answers)
