"""Suspect labels: ranked by cleanlab, of people where labels are of people, and written as corrections."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from data.annotations.corrections import apply_corrections
from data.audit import __main__ as audit
from data.audit.label_issues import average_by_person, disagreements, rank_labels
from data.audit.predictions import read_folds
from data.runtime.errors import InputError

PEOPLE, SHOTS = 40, ("mask1", "incorrect_mask", "normal")
WRONG = [3, 17, 25]  # people whose gender is wrong in the table


def fold(folder: Path, people: range, **changed: Any) -> Path:
    """A run's validation.npz: a gender head that is right, over labels that WRONG people have wrong."""
    rng = np.random.default_rng(people.start)
    person = np.repeat(np.array([f"train-0/{p:06d}_x" for p in people]), len(SHOTS))
    real = np.repeat(np.array([p % 2 for p in people]), len(SHOTS))
    table = np.repeat(np.array([(p % 2) ^ (p in WRONG) for p in people]), len(SHOTS))
    right = rng.uniform(0.75, 0.99, len(real))
    arrays = {
        "person": person,
        "path": np.array([f"/x/{p}/{s}.jpg" for p in people for s in SHOTS]),
        "shot": np.tile(SHOTS, len(people)),
        "column": np.array("gender"),
        "borders": np.array([]),
        "folds": np.array(2),
        "classes": np.array(["male", "female"]),
        "truth": table,
        "probabilities": np.where(np.arange(2) == real[:, None], right[:, None], 1 - right[:, None]),
    } | changed
    path = folder / f"fold-{people.start}" / "validation.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "runs" / "gender"
    return [fold(folder, range(PEOPLE // 2)), fold(folder, range(PEOPLE // 2, PEOPLE))]


def test_the_wrong_labels_come_first_and_quality_is_cleanlabs(files: list[Path]) -> None:
    people = average_by_person(read_folds(files))
    ranked = rank_labels(people)
    assert len(ranked) == PEOPLE
    first = ranked.head(len(WRONG))
    assert sorted(first["person"]) == [f"train-0/{p:06d}_x" for p in WRONG]
    assert (first["value"] == first["suggested"]).all()
    assert (first["found"] != first["suggested"]).all()
    quality = get_label_quality_scores(people.truth, people.probabilities, method="normalized_margin")
    assert np.allclose(ranked["quality"], np.sort(quality))
    issues = find_label_issues(people.truth, people.probabilities, n_jobs=1)
    assert (ranked["issue"] == "yes").sum() == issues.sum() > 0


def test_a_persons_probabilities_are_the_mean_of_its_images(files: list[Path]) -> None:
    predictions = read_folds(files)
    people = average_by_person(predictions)
    means = pd.DataFrame(predictions.probabilities).groupby(predictions.rows["person"]).mean()
    assert np.allclose(people.probabilities, means.loc[people.rows["person"]])
    assert (people.rows[["shot", "photograph"]] == "").all(axis=None)


def test_a_label_of_images_stays_one(files: list[Path], tmp_path: Path) -> None:
    truth: npt.NDArray[np.int64] = np.tile([0, 1, 1], PEOPLE)
    path = fold(tmp_path / "mask", range(PEOPLE), truth=truth, column=np.array("mask"))
    predictions = read_folds([path])
    assert average_by_person(predictions) is predictions
    ranked = rank_labels(predictions)
    assert set(ranked["shot"]) == set(SHOTS)
    assert set(ranked["photograph"]) == {""}  # the shot says which
    assert disagreements(predictions).empty


@pytest.mark.parametrize("shot", ["", "selfie"])
def test_without_a_shot_of_its_own_a_image_is_named_and_only_its_label_is_corrected(
    tmp_path: Path, shot: str, capsys: pytest.CaptureFixture[str]
) -> None:
    right: npt.NDArray[np.int64] = np.tile([0, 1, 1], PEOPLE)
    said = np.where(np.arange(2) == right[:, None], 0.95, 0.05)
    truth = right.copy()
    truth[[0, 4, 5]] ^= 1  # one image of the first person, two of the second
    names = {"column": np.array("mask"), "classes": np.array(["normal", "wear"])}
    shots = np.array([shot] * len(truth))
    fold(tmp_path / "runs" / "mask", range(PEOPLE), truth=truth, probabilities=said, shot=shots, **names)
    out = tmp_path / "suspects.csv"
    audit.main(["--runs", str(tmp_path / "runs"), "--task", "mask", "--out", str(out)])
    assert "3 of 120 images probably have a wrong mask" in capsys.readouterr().out
    table = pd.DataFrame(
        {
            "source": "/moved",
            "path": [f"/moved/{p}/{s}.jpg" for p in range(PEOPLE) for s in SHOTS],
            "person": [f"train-0/{p:06d}_x" for p in range(PEOPLE) for _ in SHOTS],
            "shot": shot or None,
            "mask": [["normal", "wear"][index] for index in truth],
        }
    )
    fixed = apply_corrections(table, out)
    assert fixed["mask"].tolist() == [["normal", "wear"][index] for index in right]
    assert set(pd.read_csv(out)["photograph"]) <= {f"{s}.jpg" for s in SHOTS}


def test_people_whose_images_disagree_are_counted(tmp_path: Path) -> None:
    probabilities = np.tile([[0.9, 0.1]], (PEOPLE * len(SHOTS), 1))
    probabilities[6] = [0.2, 0.8]  # the first image of person 2
    path = fold(tmp_path / "gender", range(PEOPLE), probabilities=probabilities)
    [row] = disagreements(read_folds([path])).to_dict("records")
    assert (row["person"], row["answers"]) == ("train-0/000002_x", "male 2, female 1")
    assert row["divided"] == pytest.approx(1 / 3)


def test_a_number_is_suggested_within_the_suggested_class(tmp_path: Path) -> None:
    count = PEOPLE * len(SHOTS)
    likely = np.tile([[0.1, 0.8, 0.1]], (count, 1))
    age = {"column": np.array("age"), "classes": np.array(["a", "b", "c"]), "borders": np.array([30.0, 60.0])}
    truth = np.repeat(np.arange(PEOPLE) % 3, len(SHOTS))
    expected = np.repeat(np.linspace(20, 70, PEOPLE), len(SHOTS))
    path = fold(tmp_path / "age", range(PEOPLE), probabilities=likely, truth=truth, expected=expected, **age)
    values = rank_labels(average_by_person(read_folds([path])))["value"].astype(int)
    assert values.min() == 30
    assert values.max() == 59
    without = fold(tmp_path / "plain", range(PEOPLE), probabilities=likely, truth=truth, **age)
    assert set(rank_labels(average_by_person(read_folds([without])))["value"]) == {""}


def test_a_number_beside_a_border_that_is_not_whole_is_of_the_suggested_class(tmp_path: Path) -> None:
    age = {"column": np.array("age"), "classes": np.array(["young", "old"]), "borders": np.array([30.5])}
    expected = np.repeat([30.7, 29.0, 40.0, 25.0] * (PEOPLE // 4), len(SHOTS))
    for suggested, value in (("young", {"30", "29", "25"}), ("old", {"31", "40"})):
        likely = np.tile([0.9, 0.1] if suggested == "young" else [0.1, 0.9], (len(expected), 1))
        path = fold(tmp_path / suggested, range(PEOPLE), probabilities=likely, expected=expected, **age)
        assert set(rank_labels(average_by_person(read_folds([path])))["value"]) == value


def test_folds_over_numbers_and_over_classes_suggest_no_number(tmp_path: Path) -> None:
    numbers = {"expected": np.full(PEOPLE // 2 * len(SHOTS), 40.0), "borders": np.array([30.0])}
    for first, second in ((numbers, numbers | {"expected": None}), (numbers | {"expected": None}, numbers)):
        files = [fold(tmp_path, range(20), **first), fold(tmp_path, range(20, 40), **second)]
        assert read_folds(files).expected is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": np.array(["female", "male"])}, "classes is"),
        ({"shot": None}, "lacks shot; train again"),
        ({"column": np.array("")}, "of a joint label"),
    ],
)
def test_what_does_not_fit_is_refused(
    files: list[Path], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    other = fold(tmp_path / "other", range(PEOPLE, PEOPLE + 5), **changed)
    with pytest.raises(InputError, match=message):
        read_folds([*files, other])


def test_a_image_of_two_folds_and_a_broken_file_are_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="validated on by two folds"):
        read_folds([files[0], files[0]])
    broken = tmp_path / "validation.npz"
    broken.write_bytes(b"PK")
    with pytest.raises(InputError, match="cannot be read"):
        read_folds([broken])


def test_the_csv_is_a_corrections_file(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "suspects.csv"
    audit.main(["--runs", str(tmp_path / "runs"), "--out", str(out)])
    issues = pd.read_csv(out)
    assert 0 < len(issues) <= len(WRONG)
    assert (issues["issue"] == "yes").all()
    told = capsys.readouterr().out
    assert f"gender: {len(issues)} of {PEOPLE} people probably have a wrong gender" in told
    audit.main(["--runs", str(tmp_path / "runs"), "--out", str(out), "--all"])
    assert len(pd.read_csv(out)) == PEOPLE
    table = pd.DataFrame(
        {
            "source": "/x",
            "path": [f"/x/{p}/{s}.jpg" for p in range(PEOPLE) for s in SHOTS],
            "person": [f"train-0/{p:06d}_x" for p in range(PEOPLE) for _ in SHOTS],
            "shot": list(SHOTS) * PEOPLE,
            "gender": [["male", "female"][(p % 2) ^ (p in WRONG)] for p in range(PEOPLE) for _ in SHOTS],
        }
    )
    fixed = apply_corrections(table, out)
    assert fixed["gender"].tolist() == [["male", "female"][p % 2] for p in range(PEOPLE) for _ in SHOTS]


def test_missing_folds_and_tasks_are_told(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files[1].unlink()
    audit.main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "s.csv")])
    assert "only 1 of 2 folds are there" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"found no validation.npz of age"):
        audit.main(["--runs", str(tmp_path / "runs"), "--task", "age", "--out", str(tmp_path / "s.csv")])


def test_each_label_is_ranked_once_by_the_head_with_most_folds(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "suspects.csv"
    said = np.tile([[0.02, 0.98]], (PEOPLE // 2 * len(SHOTS), 1))
    fold(runs / "a_backbone", range(PEOPLE // 2), probabilities=said)
    fold(runs / "joint", range(PEOPLE), column=np.array(""))
    audit.main(["--runs", str(runs), "--out", str(out), "--all"])
    assert capsys.readouterr().out.splitlines()[:2] == [
        "joint: passed over, it is of a joint label, not of one column",
        "a_backbone: passed over (1 of 2 folds), gender (2 of 2 folds) is of 'gender' too; "
        "--task a_backbone takes it instead",
    ]
    assert not pd.read_csv(out).duplicated(["person", "column"]).any()
    files[1].unlink()  # as many folds each
    found, told = audit.find_predictions(runs, [])
    assert list(found) == ["a_backbone"]
    assert told[1].startswith("gender: passed over (1 of 2 folds), a_backbone (1 of 2 folds) is of")
    assert list(audit.find_predictions(runs, ["gender"])[0]) == ["gender"]


def test_two_tasks_of_one_label_and_joint_labels_alone_are_refused(files: list[Path], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    fold(runs / "trunk", range(PEOPLE))
    with pytest.raises(InputError, match="gender and trunk are of 'gender', expected one for each label"):
        audit.find_predictions(runs, ["trunk", "gender"])
    fold(tmp_path / "other" / "joint", range(PEOPLE), column=np.array(""))
    with pytest.raises(
        InputError, match=r"found only heads of joint labels \(joint\), expected one of one label"
    ):
        audit.find_predictions(tmp_path / "other", [])
    with pytest.raises(InputError, match="is of a joint label, expected a head of one label"):
        audit.find_predictions(tmp_path / "other", ["joint"])
    (tmp_path / "bare" / "empty").mkdir(parents=True)
    with pytest.raises(InputError, match=r"found no validation.npz of any task"):
        audit.find_predictions(tmp_path / "bare", [])
