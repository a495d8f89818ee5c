from pathlib import Path

import numpy as np
import pytest

from data.runtime.errors import InputError
from ensemble.report.load.metadata import read_numbers, read_people, read_table

CUTS = {"age": {"age": [30.0, 60.0]}}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_people_and_ages_come_in_the_order_of_the_answers(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", "age,ImageID,person,other\n61,b,2,x\n,a,1,x\n 30 ,c,1,x\n")
    table = read_table(path, CUTS)
    people, unknown = read_people(table, ["a", "b", "c"])
    assert people is not None
    assert (people.tolist(), unknown) == (["1", "2", "1"], 0)
    [number] = read_numbers(path, table, ["a", "b", "c"], CUTS)
    assert (number.name, number.cuts) == ("age", {"age": [30, 60]})
    np.testing.assert_array_equal(number.measured, [np.nan, 61, 30])


def test_tasks_cut_from_one_column_share_its_number(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", "ImageID,age\na,12\n")
    cuts = {"age": {"age": [30.0, 60.0], "child": [13.0]}, "cm": {"height": [180.0]}}
    [number] = read_numbers(path, read_table(path, cuts), ["a"], cuts)
    assert number.cuts == {"age": [30, 60], "child": [13]}
    assert number.borders == [13, 30, 60]


def test_the_column_id_names_people_where_there_is_no_person(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", "ImageID,id\na,007\nb,\n")
    people, unknown = read_people(read_table(path, CUTS), ["a", "b", "c"])
    assert people is not None
    assert (people[0], unknown) == ("007", 2)
    assert len(set(people)) == 3  # images of nobody known are not one person


def test_without_people_or_ages_none_are_known(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", "ImageID,ans,person,age\na,1,,\n")
    table = read_table(path, CUTS)
    assert read_people(table, ["a"]) == (None, 1)
    assert read_numbers(path, table, ["a"], CUTS) == []
    assert read_people(table[["ImageID"]], ["a"]) == (None, 1)


def test_ages_that_are_no_numbers_are_all_told_with_their_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", "ImageID,age\na,3O\nb,30\nc,inf\n")
    with pytest.raises(InputError) as caught:
        read_numbers(path, read_table(path, CUTS), ["a", "b", "c"], CUTS)
    assert str(caught.value).splitlines() == [
        f"{path}: bad rows",
        "  row 2: age='3O', expected a number or nothing",
        "  row 4: age='inf', expected a number or nothing",
    ]
