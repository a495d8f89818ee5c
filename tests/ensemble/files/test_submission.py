from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import LabelEncoder

from data.images.find import read_listing
from data.runtime.errors import InputError
from ensemble.files.submission import match, read_codes, read_columns, read_ground_truth, vote, write_submission
from ensemble.joint import load_labels
from heads.config.task import Label, LabelPart

LABELS = load_labels(Path(__file__).parents[3] / "configs" / "joint.yaml")
MASKS, GENDERS = ["wear", "incorrect", "normal"], ["male", "female"]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def frame(**codes: int) -> pd.DataFrame:
    return pd.DataFrame({"ImageID": list(codes), "ans": np.array(list(codes.values()))})


def message(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_written_submission_reads_back_in_its_order_and_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out" / "submission.csv"
    ids, codes = ["007.jpg", "a, b.jpg", "é.png", "A.png"], np.array([0, 17, 5, 2])
    write_submission(path, ids, codes)
    assert path.read_text(encoding="utf-8").splitlines()[:2] == ["ImageID,ans", "007.jpg,0"]
    table = read_codes(path, 18)
    assert table["ImageID"].tolist() == read_listing(path) == ids
    assert table["ans"].tolist() == codes.tolist()
    assert table["ans"].dtype == np.int64
    before = path.read_bytes()
    with pytest.raises(ValueError, match="shorter"):
        write_submission(path, ["a", "b"], [1])
    with pytest.raises(TypeError):
        write_submission(path, ["a"], [1.5])  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("code", ["18", "-1", "1.0", "", "x", "1_0", "٣", "9" * 5000])
def test_codes_that_are_no_class_are_refused_with_their_row(tmp_path: Path, code: str) -> None:
    path = written(tmp_path / "a.csv", f"ImageID,ans\na.jpg,17\nb.jpg,{code}\n")
    expected = f"{path}: bad rows\n  row 3: ans={code[:40]!r}, expected a whole number from 0 to 17"
    assert message(read_codes, path, 18) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", r"columns \(none\); expected ImageID, ans once"),
        (b"ImageID,answer\na,1\n", "columns ImageID, answer; expected ans once"),
        (b"ImageID,ans,ans\na,1,2\n", "expected ans once"),
        (b"ImageID,ans\n", "no rows after the heading"),
        (b"ImageID,ans\na,1\n,2\nb,1\na,2\n", r"(?s)row 3: ImageID is empty.*rows 2, 5: ImageID='a' is there 2 times"),
        (None, "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=expected):
        read_codes(tmp_path / "a.csv", 18)


@given(st.permutations(range(6)))
def test_match_pairs_by_id_whatever_the_order(order: list[int]) -> None:
    truth = frame(a=1, b=2, c=3, d=4, e=5, f=6)
    submission = frame(a=10, b=20, c=30, d=40, e=50, f=60).iloc[order]
    expected, predicted = match(submission, truth)
    assert expected.tolist() == [1, 2, 3, 4, 5, 6]
    assert predicted.tolist() == [10, 20, 30, 40, 50, 60]


def test_match_names_missing_and_unknown_images_with_their_rows(tmp_path: Path) -> None:
    submission = read_codes(written(tmp_path / "s.csv", "ImageID,ans\n\na,1\nx,2\n"), 18)
    error = message(match, submission, frame(a=1, b=2, c=3, d=4, e=5), ("s.csv", "a.csv"))
    assert error.splitlines() == [
        "s.csv and a.csv do not match",
        "  s.csv lacks 4 of the 5 images of a.csv: b (row 1), c (row 2), d (row 3), ...",
        "  a.csv lacks 1 of the 2 images of s.csv: x (row 4)",
    ]


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=2, max_size=6))
def test_the_majority_wins_and_a_tie_goes_to_the_earliest_submission(submissions: list[list[int]]) -> None:
    frames = [pd.DataFrame({"ImageID": list("abcd"), "ans": np.array(each)}) for each in submissions]
    frames[-1] = frames[-1].iloc[::-1]  # the order of the first one counts
    expected = []
    for votes in zip(*submissions, strict=True):
        most = max(votes.count(value) for value in votes)
        expected.append(next(value for value in votes if votes.count(value) == most))
    voted = vote(frames, [str(number) for number in range(len(frames))])
    assert voted["ans"].tolist() == expected
    assert voted["ImageID"].tolist() == list("abcd")


def test_votes_need_two_submissions_of_the_same_images() -> None:
    assert "expected at least two" in message(vote, [frame(a=1)], ["1.csv"])
    error = message(vote, [frame(a=1, b=1), frame(a=1), frame(a=1, b=1, c=1)], ["1.csv", "2.csv", "3.csv"])
    assert [line.split(":")[0] for line in error.splitlines()[1:]] == [
        "  2.csv lacks 1 of the 2 images of 1.csv",
        "  1.csv lacks 1 of the 3 images of 3.csv",
    ]


def test_columns_are_text_and_missing_optional_ones_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "people.csv", "age,ImageID,other\n 34 ,a.jpg,x\n,b.jpg,y\n")
    table = read_columns(path, ["ImageID"], ["person", "age"])
    assert table.to_dict("list") == {"ImageID": ["a.jpg", "b.jpg"], "age": ["34", ""]}
    assert table.index.tolist() == [2, 3]
    assert "expected person once" in message(read_columns, path, ["ImageID", "person"], [])


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {"mask": rng.choice(MASKS, 50), "gender": rng.choice(GENDERS, 50), "age": rng.integers(18, 70, 50)}
    return pd.DataFrame({"ImageID": [f"{number}.jpg" for number in range(50)], **columns, "note": "x"})


def expected_codes(table: pd.DataFrame) -> np.ndarray:
    gender = 1 - LabelEncoder().fit_transform(table["gender"])
    return table["mask"].map(MASKS.index).to_numpy() * 6 + gender * 3 + np.digitize(table["age"], [30, 60])


def test_labels_by_name_are_the_joint_codes_and_codes_win_over_names(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    table.to_csv(path, index=False)
    parts = [LabelPart(column=str(each.column), classes=each.classes, borders=each.borders) for each in LABELS.values()]
    for labels in (LABELS, {"joint18": Label(parts=parts)}):
        named = read_ground_truth(path, labels)
        assert named["ImageID"].tolist() == table["ImageID"].tolist()
        assert named["ans"].tolist() == expected_codes(table).tolist()
    table.assign(ans=17).to_csv(path, index=False)
    assert set(read_ground_truth(path, LABELS)["ans"]) == {17}
    table.drop(columns="gender").to_csv(path, index=False)
    with pytest.raises(InputError, match="found neither ans nor gender; expected ans, or mask, gender, age beside"):
        read_ground_truth(path, LABELS)


@pytest.mark.parametrize(
    ("row", "column", "value", "expected"),
    [
        (3, "gender", "Female", "row 5: found 'Female', expected one of male, female"),
        (0, "age", "", "row 2: found '', expected a number from 0.* up"),
        (1, "age", "old", "row 3: found 'old', expected a number from 0.* up"),
        (2, "ImageID", "0.jpg", "0.jpg"),
    ],
)
def test_values_that_are_no_label_are_refused_with_their_row(row, column, value, expected, table, tmp_path) -> None:
    text = table.astype(str)
    text.loc[row, column] = value
    text.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(InputError, match=expected):
        read_ground_truth(tmp_path / "labels.csv", LABELS)
