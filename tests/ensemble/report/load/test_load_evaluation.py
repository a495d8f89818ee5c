import re
from pathlib import Path

import numpy as np
import pytest

from data.runtime.errors import InputError
from ensemble.report.load.load_evaluation import load_evaluation
from heads.config.task import Label
from tests.ensemble.report.conftest import TASKS, World


@pytest.fixture
def alone(world: World, tmp_path: Path) -> Path:
    """The submission in a folder of its own, without a file of probabilities."""
    (tmp_path / "a.csv").write_text((world.folder / "a.csv").read_text())
    return tmp_path / "a.csv"


@pytest.fixture(scope="module")
def arrays(world: World) -> dict[str, np.ndarray]:
    with np.load(world.folder / "probabilities.npz") as held:
        return dict(held)


def test_everything_is_in_the_order_of_the_answers(world: World) -> None:
    evaluation, runs, notes = world.load(compare=[world.folder / "b.csv"])
    assert (runs, notes) == ([], [])
    found = {"ImageID": evaluation.ids, "ans": evaluation.truth, "person": evaluation.people}
    found |= dict(zip(("given", "other"), evaluation.submissions.values(), strict=True))
    found["age"] = evaluation.numbers[0].value
    for name, values in found.items():
        assert list(values) == world.table[name].tolist()
    assert len(set(evaluation.groups.tolist())) == 12
    for task in TASKS:
        np.testing.assert_array_equal(evaluation.outputs[task].probabilities, world.merged[task])
        np.testing.assert_array_equal(evaluation.outputs[task].identity, world.plain[task])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ImageID": np.arange(84).astype(str)}, "its 84 images are not the 84 of the answers"),
        ({"mask/classes": np.array(["no", "yes"])}, "mask: classes no, yes; expected wear, "),
        ({"age": np.ones((84, 2)) / 2}, r"age: shape \(84, 2\), expected \(84, 3\)"),
        ({"age": np.full((84, 3), "x")}, "age: holds <U1, expected numbers"),
        ({"age/identity": np.ones((84, 3))}, "age/identity: expected probabilities from 0 to 1"),
        ({"age/temperature": np.array(np.inf)}, "temperature of age: expected one number above 0"),
        ({"ImageID": np.full((7, 12), "x")}, "its 84 images are not the 84 of the answers"),
        ({"age/temperature": np.array(0.0)}, "temperature of age: expected one number above 0"),
        ({"ImageID": np.array([b"x", None])}, "cannot be read"),
        (b"PK\x03\x04 cut off", r"probabilities\.npz: cannot be read"),
    ],
)
def test_probabilities_that_do_not_fit_are_an_error_if_asked_for_else_a_note(
    world: World, alone: Path, arrays: dict, changes: dict | bytes, message: str
) -> None:
    path = alone.parent / "probabilities.npz"
    if isinstance(changes, bytes):
        path.write_bytes(changes)
    else:
        np.savez(path, **(arrays | changes))
    with pytest.raises(InputError, match=message):
        world.load(alone, probabilities=path)
    evaluation, _, [note] = world.load(alone)
    assert evaluation.outputs == {}
    assert re.search(f"{message}.*: no calibration error.$", note)


def test_probabilities_of_another_submission_are_left_out_unless_asked_for(world, alone, arrays) -> None:
    path, other = alone.parent / "probabilities.npz", alone.parent / "b.csv"
    np.savez(path, **arrays)
    other.write_text((world.folder / "b.csv").read_text())
    shares = [np.mean(world.merged[task].argmax(1) != world.plain[task].argmax(1)) for task in TASKS]
    differ = ", ".join(f"{task} {share:.0%}" for task, share in zip(TASKS, shares, strict=True))
    note = f"{path}: the submission has other answers than these probabilities ({differ})."
    evaluation, _, notes = world.load(other)
    assert (evaluation.outputs, notes) == ({}, [f"{note} No calibration error."])
    evaluation, _, notes = world.load(other, probabilities=path)
    assert (list(evaluation.outputs), notes) == (list(TASKS), [note])


def test_a_head_without_probabilities_is_noted(world: World, alone: Path, arrays: dict) -> None:
    path = alone.parent / "probabilities.npz"
    np.savez(path, ImageID=arrays["ImageID"], mask=arrays["mask"])
    evaluation, _, notes = world.load(alone)
    assert (list(evaluation.outputs), notes) == (["mask"], [f"{path}: no probabilities of age."])
    assert (evaluation.outputs["mask"].identity, evaluation.confidence) == (None, None)


def test_a_submission_of_other_tasks_is_not_scored(world: World, alone: Path, arrays: dict) -> None:
    others = {name.replace("mask", "hat"): array for name, array in arrays.items() if name.startswith(("mask", "Im"))}
    np.savez(alone.parent / "probabilities.npz", **others)
    with pytest.raises(InputError, match=r"holds probabilities of hat, expected mask, age; --config names"):
        world.load(alone)


def test_people_and_numbers_by_hand(tmp_path: Path) -> None:
    labels = {
        "age": Label(column="age", classes=["a", "b", "c"], borders=[30, 60]),
        "child": Label(column="age", classes=["child", "adult"], borders=[13]),
    }
    submission, answers, people = (tmp_path / f"{name}.csv" for name in ("a", "answers", "people"))
    submission.write_text("ImageID,ans\na,0\nb,0\nc,0\n")
    answers.write_text("ImageID,ans,age,group,id\nb,5,61,007,1\na,1,,,2\nc,3, 30 ,007,3\n")  # id numbers the rows
    evaluation, _, notes = load_evaluation(labels, submission, answers)
    assert evaluation.people.tolist() == ["007", "\na", "007"]  # an image without a person is one of its own
    assert notes == [f"{answers}: 1 of 3 images name no person; each counts as a person of its own."]
    [number] = evaluation.numbers
    assert (number.task_borders, number.borders) == ({"age": [30, 60], "child": [13]}, [13, 30, 60])
    np.testing.assert_array_equal(number.value, [61, np.nan, 30])
    people.write_text("age,ImageID\n62,c\n20,a\n61,b\n")  # goes before the ages of the answers
    evaluation, _, [_, note] = load_evaluation(labels, submission, answers, people=people)
    assert evaluation.people.tolist() == ["007", "\na", "007"]
    assert evaluation.numbers[0].value.tolist() == [61, 20, 62]
    assert note.startswith("1 of 3 answers have another class of age than their age: are they codes")
    answers.write_text("ImageID,ans,person,age,id\nb,5,,,1\na,1,,,2\nc,3,,,3\n")
    evaluation, _, notes = load_evaluation(labels, submission, answers)
    assert (evaluation.people, evaluation.numbers, notes) == (None, [], [])
    assert evaluation.groups.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ImageID,person\nother.jpg,1\n", "none of its 1 images is among the answers"),
        ("ImageID,age\n000.jpg,3O\n1,30\n2,inf\n", "row 2: age='3O', expected .*\n  row 4: age='inf', expected"),
    ],
)
def test_a_bad_table_of_people_is_refused(world: World, alone: Path, text: str, message: str) -> None:
    (alone.parent / "people.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        world.load(alone, people=alone.parent / "people.csv")
