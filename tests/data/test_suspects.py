"""Suspect labels: ranked by cleanlab, of people where labels are of people, and written as corrections."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from data import audit
from data.corrections import apply_corrections
from data.errors import InputError
from data.suspects import disagreements, of_people, read_out_of_fold, suspects

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
    people = of_people(read_out_of_fold(files))
    ranked = suspects(people)
    assert len(ranked) == PEOPLE
    first = ranked.head(len(WRONG))
    assert sorted(first["person"]) == [f"train-0/{p:06d}_x" for p in WRONG]
    assert (first["value"] == first["suggested"]).all()
    assert (first["found"] != first["suggested"]).all()
    quality = get_label_quality_scores(people.truth, people.probabilities, method="normalized_margin")
    assert np.allclose(ranked["quality"], np.sort(quality))
    issues = find_label_issues(people.truth, people.probabilities, n_jobs=1)
    assert (ranked["issue"] == "yes").sum() == issues.sum() > 0


def test_a_persons_probabilities_are_the_mean_of_its_photographs(files: list[Path]) -> None:
    predictions = read_out_of_fold(files)
    people = of_people(predictions)
    means = pd.DataFrame(predictions.probabilities).groupby(predictions.rows["person"]).mean()
    assert np.allclose(people.probabilities, means.loc[people.rows["person"]])
    assert (people.rows["shot"] == "").all()


def test_a_label_of_photographs_stays_one(files: list[Path], tmp_path: Path) -> None:
    truth: npt.NDArray[np.int64] = np.tile([0, 1, 1], PEOPLE)
    path = fold(tmp_path / "mask", range(PEOPLE), truth=truth, column=np.array("mask"))
    predictions = read_out_of_fold([path])
    assert of_people(predictions) is predictions
    assert set(suspects(predictions)["shot"]) == set(SHOTS)
    assert disagreements(predictions).empty


def test_people_whose_photographs_disagree_are_counted(tmp_path: Path) -> None:
    probabilities = np.tile([[0.9, 0.1]], (PEOPLE * len(SHOTS), 1))
    probabilities[6] = [0.2, 0.8]  # the first photograph of person 2
    path = fold(tmp_path / "gender", range(PEOPLE), probabilities=probabilities)
    [row] = disagreements(read_out_of_fold([path])).to_dict("records")
    assert (row["person"], row["answers"]) == ("train-0/000002_x", "male 2, female 1")
    assert row["divided"] == pytest.approx(1 / 3)


def test_a_number_is_suggested_within_the_suggested_class(tmp_path: Path) -> None:
    count = PEOPLE * len(SHOTS)
    likely = np.tile([[0.1, 0.8, 0.1]], (count, 1))
    age = {"column": np.array("age"), "classes": np.array(["a", "b", "c"]), "borders": np.array([30.0, 60.0])}
    truth = np.repeat(np.arange(PEOPLE) % 3, len(SHOTS))
    expected = np.repeat(np.linspace(20, 70, PEOPLE), len(SHOTS))
    path = fold(tmp_path / "age", range(PEOPLE), probabilities=likely, truth=truth, expected=expected, **age)
    values = suspects(of_people(read_out_of_fold([path])))["value"].astype(int)
    assert values.min() == 30
    assert values.max() == 59
    without = fold(tmp_path / "plain", range(PEOPLE), probabilities=likely, truth=truth, **age)
    assert set(suspects(of_people(read_out_of_fold([without])))["value"]) == {""}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": np.array(["female", "male"])}, "classes is"),
        ({"shot": None}, "lacks shot; train anew"),
        ({"column": np.array("")}, "of a joint label"),
    ],
)
def test_what_does_not_fit_is_refused(
    files: list[Path], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    other = fold(tmp_path / "other", range(PEOPLE, PEOPLE + 5), **changed)
    with pytest.raises(InputError, match=message):
        read_out_of_fold([*files, other])


def test_a_photograph_of_two_folds_and_a_broken_file_are_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="validated on by two folds"):
        read_out_of_fold([files[0], files[0]])
    broken = tmp_path / "validation.npz"
    broken.write_bytes(b"PK")
    with pytest.raises(InputError, match="cannot be read"):
        read_out_of_fold([broken])


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
