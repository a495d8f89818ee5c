"""Label issues: ranked as cleanlab does, of people where labels are of people, and written as corrections."""

import io
from contextlib import redirect_stdout

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from data.annotations.corrections import apply_corrections
from data.audit import __main__ as audit
from data.audit.label_issues import average_by_person, rank_labels
from data.audit.predictions import find_predictions, read_folds
from data.runtime.errors import InputError

PEOPLE, SHOTS = 40, ("mask1", "incorrect_mask", "normal")
ROWS = PEOPLE * len(SHOTS)
WRONG = [3, 17, 25]  # people whose gender is wrong in the table
NAMES = np.array([f"train-0/{p:06d}_x" for p in range(PEOPLE)])


def fold(folder, people, **changed):
    """Write a run's validation.npz: a gender head that is right, with labels that WRONG people have wrong."""
    rng = np.random.default_rng(people.start)
    real = np.repeat(np.array([p % 2 for p in people]), len(SHOTS))
    right = rng.uniform(0.75, 0.99, len(real))
    arrays = {
        "person": np.repeat([f"train-0/{p:06d}_x" for p in people], len(SHOTS)),
        "path": np.array([f"/x/{p}/{s}.jpg" for p in people for s in SHOTS]),
        "shot": np.tile(SHOTS, len(people)),
        "column": np.array("gender"),
        "borders": np.array([]),
        "folds": np.array(2),
        "classes": np.array(["male", "female"]),
        "truth": np.repeat(np.array([(p % 2) ^ (p in WRONG) for p in people]), len(SHOTS)),
        "probabilities": np.where(np.arange(2) == real[:, None], right[:, None], 1 - right[:, None]),
    } | changed
    path = folder / f"fold-{people.start}" / "validation.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.fixture
def files(tmp_path):
    return [fold(tmp_path / "runs" / "gender", people) for people in (range(20), range(20, 40))]


def test_wrong_labels_of_people_come_first(files):
    predictions = read_folds(files)
    people = average_by_person(predictions)
    means = pd.DataFrame(predictions.probabilities).groupby(predictions.rows["person"]).mean()
    assert np.allclose(people.probabilities, means.loc[people.rows["person"]])
    ranked = rank_labels(people)
    assert len(ranked) == PEOPLE
    first = ranked.head(len(WRONG))
    assert sorted(first["person"]) == NAMES[WRONG].tolist()
    assert set(ranked["person"][ranked["issue"] == "yes"]) <= set(NAMES[WRONG])
    assert (first["value"] == first["suggested"]).all()
    assert (first["found"] != first["suggested"]).all()
    # The normalised margin, (1 + p(label) - max p(other)) / 2, is of two classes the label's own probability.
    assert np.allclose(ranked["quality"], np.sort(people.probabilities[np.arange(PEOPLE), people.truth]))


def test_a_wrong_label_of_one_image_leaves_the_labels_those_of_people(tmp_path):
    right = np.repeat([p % 2 for p in range(PEOPLE)], len(SHOTS))
    truth = right.copy()
    truth[3] ^= 1  # the second person's mask1.jpg
    truth[30:33] ^= 1  # all images of the eleventh
    runs, out = tmp_path / "runs", tmp_path / "suspects.csv"
    fold(runs / "gender", range(PEOPLE), truth=truth)
    audit.main(["--runs", str(runs), "--out", str(out), "--all"])
    ranked = pd.read_csv(out, keep_default_na=False)
    assert len(ranked) == PEOPLE - 1 + len(SHOTS)
    wrong = ranked[ranked["issue"] == "yes"]
    assert sorted(zip(wrong["person"], wrong["shot"], strict=True)) == [(NAMES[1], SHOTS[0]), (NAMES[10], "")]
    audit.main(["--runs", str(runs), "--out", str(out)])
    fixed = apply_corrections(table("gender", truth, ["male", "female"], list(SHOTS) * PEOPLE), out)
    assert fixed["gender"].tolist() == [["male", "female"][index] for index in right]


def test_the_files_are_written_before_anything_is_printed(files, tmp_path):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    out = tmp_path / "suspects.csv"
    with pytest.raises(BrokenPipeError), redirect_stdout(Closed()):
        audit.main(["--runs", str(tmp_path / "runs"), "--out", str(out)])
    assert set(pd.read_csv(out)["person"]) <= set(NAMES[WRONG])


def test_people_whose_images_disagree_are_listed(tmp_path):
    probabilities = np.tile([[0.9, 0.1]], (ROWS, 1))
    probabilities[6] = [0.2, 0.8]  # the first image of person 2
    fold(tmp_path / "gender", range(PEOPLE), probabilities=probabilities)
    out = tmp_path / "suspects[1].csv"
    earlier = tmp_path / "suspects[1]-disagreements-age.csv"
    earlier.touch()
    audit.main(["--runs", str(tmp_path), "--out", str(out)])
    [row] = pd.read_csv(tmp_path / "suspects[1]-disagreements-gender.csv").to_dict("records")
    assert (row["person"], row["answers"]) == (NAMES[2], "male 2, female 1")
    assert row["divided"] == pytest.approx(1 / 3, abs=1e-4)
    assert not earlier.exists(), "of an earlier run"


@pytest.mark.parametrize(
    ("borders", "likely", "expected", "values"),
    [
        ([30.0, 60.0], [0.1, 0.8, 0.1], [20.0, 41.0, 70.0, 59.6], {"30", "41", "59"}),
        ([30.5], [0.9, 0.1], [30.7, 29.0, 40.0, 25.0], {"30", "29", "25"}),
        ([30.5], [0.1, 0.9], [30.7, 29.0, 40.0, 25.0], {"31", "40"}),
        ([30.5], [0.1, 0.9], None, {""}),
    ],
)
def test_a_suggested_number_is_the_predicted_one_within_the_suggested_class(
    tmp_path, borders, likely, expected, values
):
    numbers = None if expected is None else np.repeat(expected * (PEOPLE // 4), len(SHOTS))
    age = {"column": np.array("age"), "borders": np.array(borders), "expected": numbers}
    classes, probabilities = np.array(["a", "b", "c"][: len(likely)]), np.tile([likely], (ROWS, 1))
    file = fold(tmp_path, range(PEOPLE), probabilities=probabilities, classes=classes, **age)
    assert set(rank_labels(average_by_person(read_folds([file])))["value"]) == values


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": np.array(["female", "male"])}, "classes is"),
        ({"column": np.array("")}, "column is '', expected 'gender' as in"),
        ({"shot": None}, "lacks shot; train again"),
        ({"truth": np.zeros(3, int)}, r"wrong arrays.*(\n.*)*probabilities: \w+ \(15, 2\), expected numbers \(3, 2\)"),
        ({"truth": np.zeros(15)}, r"truth: float64 \(15,\), expected whole numbers \(15,\)"),
        ({"truth": np.full(15, 2)}, "truth: class indices from 2 to 2, expected 0 to 1"),
        ({"path": np.arange(15)}, r"path: int64 \(15,\), expected text \(15,\)"),
        ({"folds": np.array([2, 2])}, r"folds: int64 \(2,\), expected whole numbers \(\)"),
        ({"classes": np.array([["male", "female"]])}, r"classes: <U6 \(1, 2\), expected text \(2,\)"),
        ({"expected": np.zeros(3)}, r"expected: float64 \(3,\), expected numbers \(15,\)"),
        ({"path": np.array([f"/x/{n // 3}/{SHOTS[n % 3]}.jpg" for n in range(15)])}, "two folds validate on 15"),
        ({"shot": np.array(["mask1"] * 15, dtype=object)}, "cannot be read .*allow_pickle=False"),
        (b"PK", "cannot be read"),
        (b"", "cannot be read"),
        (None, "cannot be read .*No such file"),
    ],
)
def test_files_that_do_not_fit_are_refused(files, changed, message):
    folder = files[0].parent.parent
    other = folder / "validation.npz"
    if isinstance(changed, dict):
        other = fold(folder, range(PEOPLE, PEOPLE + 5), **changed)
    elif changed is not None:
        other.write_bytes(changed)
    with pytest.raises(InputError, match=message):
        read_folds([*files, other])


def test_the_csv_is_a_corrections_file(files, tmp_path, capsys):
    out = tmp_path / "suspects.csv"
    audit.main(["--runs", str(tmp_path / "runs"), "--out", str(out)])
    issues = pd.read_csv(out)
    assert 0 < len(issues) <= len(WRONG)
    assert f"gender: {len(issues)} of {PEOPLE} people probably have a wrong gender" in capsys.readouterr().out
    audit.main(["--runs", str(tmp_path / "runs"), "--out", str(out), "--all"])
    assert len(pd.read_csv(out)) == PEOPLE
    wrong = np.repeat([(p % 2) ^ (p in WRONG) for p in range(PEOPLE)], len(SHOTS))
    fixed = apply_corrections(table("gender", wrong, ["male", "female"], list(SHOTS) * PEOPLE), out)
    assert fixed["gender"].tolist() == [["male", "female"][p % 2] for p in range(PEOPLE) for _ in SHOTS]


@pytest.mark.parametrize("shots", [[""], ["selfie"], SHOTS])  # the challenge's shots identify an image
def test_an_image_without_its_own_shot_is_named_and_only_its_label_is_corrected(tmp_path, shots, capsys):
    right: npt.NDArray[np.int64] = np.tile([0, 1, 1], PEOPLE)
    truth = right.copy()
    truth[[0, 4, 5]] ^= 1  # one image of the first person, two of the second
    names = {"column": np.array("mask"), "classes": np.array(["normal", "wear"]), "shot": np.resize(shots, ROWS)}
    probabilities = np.where(np.arange(2) == right[:, None], 0.95, 0.05)
    fold(tmp_path / "runs" / "mask", range(PEOPLE), truth=truth, probabilities=probabilities, **names)
    out = tmp_path / "suspects.csv"
    audit.main(["--runs", str(tmp_path / "runs"), "--task", "mask", "--out", str(out)])
    assert "3 of 120 images probably have a wrong mask" in capsys.readouterr().out
    shots = [shot or None for shot in names["shot"]]
    fixed = apply_corrections(table("mask", truth, ["normal", "wear"], shots), out)
    assert fixed["mask"].tolist() == [["normal", "wear"][index] for index in right]
    assert pd.read_csv(out)["photograph"].isna().all() == ("mask1" in shots)


def test_names_that_no_csv_holds_are_refused(tmp_path):
    fold(tmp_path / "gender", range(PEOPLE), path=np.array([f"/x/\udce9{row}.jpg" for row in range(ROWS)]))
    with pytest.raises(InputError, match="gender: names that are not UTF-8"):
        audit.main(["--runs", str(tmp_path)])


def table(column, truth, classes, shots):
    """The table of the data, read from another folder than in training."""
    paths = [f"/moved/{p}/{s}.jpg" for p in range(PEOPLE) for s in SHOTS]
    labels = {"person": np.repeat(NAMES, len(SHOTS)), "shot": shots, column: [classes[index] for index in truth]}
    return pd.DataFrame({"source": "/moved", "path": paths} | labels)


def test_each_label_is_ranked_once_by_the_head_with_most_folds(files, tmp_path, capsys):
    runs, out = tmp_path / "runs", tmp_path / "suspects.csv"
    fold(runs / "a_backbone", range(PEOPLE // 2))
    fold(runs / "joint", range(PEOPLE), column=np.array(""))
    audit.main(["--runs", str(runs), "--out", str(out), "--all"])
    joint, backbone, *_ = capsys.readouterr().out.splitlines()
    assert joint.startswith("joint: left out, it predicts a joint label")
    assert backbone.startswith("a_backbone: left out (1 of 2 folds), gender (2 of 2 folds) predicts 'gender' too;")
    assert not pd.read_csv(out).duplicated(["person", "column"]).any()
    files[1].unlink()
    assert list(find_predictions(runs, [])[0]) == ["a_backbone"], "as many folds each"
    audit.main(["--runs", str(runs), "--task", "gender", "--out", str(out)])
    assert "only 1 of 2 folds are there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["backbone", "gender"], "backbone and gender predict 'gender'"),
        (["joint"], "joint predict a joint label, expected heads of one label"),
        (["age", "gend*", "../backbone"], r"found no validation.npz of age, gend\*, ../backbone,"),
        (None, "joint predict a joint label"),  # no other head is there
        ([], "found no validation.npz of any task"),
    ],
)
def test_runs_without_a_head_for_each_label_are_refused(tmp_path, tasks, message):
    (tmp_path / "empty").mkdir()
    if tasks != []:
        fold(tmp_path / "joint", range(PEOPLE), column=np.array(""))
    if tasks:
        fold(tmp_path / "backbone", range(PEOPLE))
        fold(tmp_path / "gender", range(PEOPLE))
    with pytest.raises(InputError, match=message):
        find_predictions(tmp_path, tasks or [])
