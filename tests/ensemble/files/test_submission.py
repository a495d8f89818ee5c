from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.annotations.listing import read_listing
from data.runtime.errors import InputError
from ensemble.files.submission import (
    match,
    read_answers,
    read_columns,
    vote,
    write_submission,
)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def frame(**answers: int) -> pd.DataFrame:
    return pd.DataFrame({"ImageID": list(answers), "ans": np.array(list(answers.values()))})


def message(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_written_submission_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out" / "submission.csv"
    ids, answers = ["007.jpg", "a, b.jpg", "é.png"], np.array([0, 17, 5])
    write_submission(path, ids, answers)
    assert path.read_text(encoding="utf-8").splitlines()[:2] == ["ImageID,ans", "007.jpg,0"]
    table = read_answers(path, 18)
    assert table["ImageID"].tolist() == read_listing(path) == ids
    assert table["ans"].tolist() == answers.tolist()
    assert table["ans"].dtype == np.int64


def test_a_submission_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = written(tmp_path / "submission.csv", "old")
    with pytest.raises(ValueError, match="shorter"):
        write_submission(path, ["a", "b"], [1])
    with pytest.raises(TypeError):
        write_submission(path, ["a"], [1.5])  # type: ignore[list-item]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_listing_needs_the_id_column_alone_and_keeps_ids_as_text(tmp_path: Path) -> None:
    path = written(tmp_path / "info.csv", "\ufeffans,ImageID\nx,007\n,NA\n\n")
    assert read_listing(path) == ["007", "NA"]


def test_bad_rows_of_a_listing_are_all_told(tmp_path: Path) -> None:
    path = written(tmp_path / "info.csv", "ImageID,ans\na.jpg,0\n,0\na.jpg,0\nb.jpg,0\n ,0\n")
    assert message(read_listing, path).splitlines() == [
        f"{path}: bad rows",
        "  row 3: ImageID is empty",
        "  row 6: ImageID is empty",
        "  rows 2, 4: ImageID='a.jpg' is there 2 times, expected once",
    ]


@pytest.mark.parametrize("answer", ["18", "-1", "1.0", "", "x", "1_0", "٣", "9" * 5000])
def test_answers_that_are_no_class_are_told_with_their_row(tmp_path: Path, answer: str) -> None:
    path = written(tmp_path / "a.csv", f"ImageID,ans\na.jpg,17\nb.jpg,{answer}\n")
    told = message(read_answers, path, 18)
    assert told == f"{path}: bad rows\n  row 3: ans={answer[:40]!r}, expected a whole number from 0 to 17"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"row 1: columns \(none\); expected ImageID, ans once"),
        ("ImageID,answer\na,1\n", "row 1: columns ImageID, answer; expected ans once"),
        ("ImageID,ans,ans\na,1,2\n", "expected ans once"),
        ("ImageID,ans\n", "no rows after the heading"),
        ("ImageID,ans\na,1\nb\n", "row 3: 1 values, expected 2"),
    ],
)
def test_files_of_another_form_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_answers(written(tmp_path / "a.csv", text), 18)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"ImageID,ans\n\xe9.jpg,1\n")
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "latin.csv"):
        assert f"{path}: cannot be read as CSV" in message(read_answers, path, 18)


@given(st.permutations(range(6)))
def test_match_pairs_by_id_whatever_the_order(order: list[int]) -> None:
    answers = frame(a=1, b=2, c=3, d=4, e=5, f=6)
    submission = frame(a=10, b=20, c=30, d=40, e=50, f=60).iloc[order]
    truth, predicted = match(submission, answers)
    assert truth.tolist() == [1, 2, 3, 4, 5, 6]
    assert predicted.tolist() == [10, 20, 30, 40, 50, 60]


def test_match_tells_missing_and_unknown_images() -> None:
    told = message(match, frame(a=1, x=1), frame(a=1, b=2, c=3, d=4, e=5), ("s.csv", "a.csv"))
    assert told.splitlines() == [
        "s.csv and a.csv do not match",
        "  s.csv lacks 4 of the 5 images of a.csv: b (row 1), c (row 2), d (row 3), ...",
        "  a.csv lacks 1 of the 2 images of s.csv: x (row 1)",
    ]


def test_the_majority_wins_and_a_tie_goes_to_the_earliest_submission() -> None:
    first, second, third, fourth = (
        frame(z=1, a=1, b=1, c=7),
        frame(a=2, z=1, b=2, c=5),
        frame(z=3, a=2, b=2, c=6),
        frame(z=3, a=3, b=1, c=6),
    )
    voted = vote([first, second, third])
    assert voted["ImageID"].tolist() == ["z", "a", "b", "c"]
    assert voted["ans"].tolist() == [1, 2, 2, 7]
    # The tied pair is 1 and 3 for z, 1 and 2 for b: in both, the first submission's answer is among them.
    assert vote([first, second, third, fourth])["ans"].tolist() == [1, 2, 1, 6]
    # For c nobody agrees with the first two: the tie among 6 and 6 is none, the majority is theirs.
    assert vote([fourth, third, second, first])["ans"].tolist() == [3, 2, 1, 6]


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=2, max_size=6))
def test_voting_equals_counting(answers: list[list[int]]) -> None:
    frames = [pd.DataFrame({"ImageID": list("abcd"), "ans": np.array(each)}) for each in answers]
    expected = []
    for votes in zip(*answers, strict=True):
        most = max(votes.count(value) for value in votes)
        expected.append(next(value for value in votes if votes.count(value) == most))
    assert vote(frames)["ans"].tolist() == expected


def test_votes_need_two_submissions_of_the_same_images() -> None:
    assert "expected at least two" in message(vote, [frame(a=1)])
    told = message(vote, [frame(a=1, b=1), frame(a=1), frame(a=1, b=1, c=1)], ["1.csv", "2.csv", "3.csv"])
    assert told.splitlines() == [
        "the submissions do not hold the same images",
        "  2.csv lacks 1 of the 2 images of 1.csv: b (row 1)",
        "  1.csv lacks 1 of the 3 images of 3.csv: c (row 2)",
    ]


def test_images_that_do_not_match_are_told_with_their_row_in_the_file(tmp_path: Path) -> None:
    submission = read_answers(written(tmp_path / "s.csv", "ImageID,ans\n\na,1\nb,2\n"), 18)
    answers = read_answers(written(tmp_path / "a.csv", "ans,ImageID\n1,a\n"), 18)
    told = message(match, submission, answers, ("s.csv", "a.csv"))
    assert told.splitlines()[1:] == ["  a.csv lacks 1 of the 2 images of s.csv: b (row 4)"]


def test_columns_are_text_and_those_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "people.csv", "age,ImageID,other\n 34 ,a.jpg,x\n,b.jpg,y\n")
    table = read_columns(path, ["ImageID"], ["person", "age"])
    assert table.to_dict("list") == {"ImageID": ["a.jpg", "b.jpg"], "age": ["34", ""]}
    assert table.index.tolist() == [2, 3]
    assert "expected person once" in message(read_columns, path, ["ImageID", "person"], [])
    written(path, "ImageID,age\na.jpg,1\na.jpg,2\n")
    assert "rows 2, 3: ImageID='a.jpg' is there 2 times" in message(read_columns, path, ["ImageID"], ["age"])
