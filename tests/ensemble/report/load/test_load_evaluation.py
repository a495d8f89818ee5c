import re
from pathlib import Path

import numpy as np
import pytest

from data.runtime.errors import InputError
from ensemble.report.load.load_evaluation import EvaluationFiles, load_evaluation
from tests.ensemble.report.conftest import LABELS, TASKS, World


@pytest.fixture
def sources(world: World, tmp_path: Path) -> EvaluationFiles:
    """The world's files with the submission in a folder of its own, so that nothing lies beside it."""
    (tmp_path / "a.csv").write_text((world.folder / "a.csv").read_text())
    return EvaluationFiles(tmp_path / "a.csv", world.folder / "answers.csv")


def arrays(world: World) -> dict[str, np.ndarray]:
    with np.load(world.folder / "probabilities.npz") as held:
        return {name: held[name] for name in held.files}


def test_all_files_are_laid_in_the_order_of_the_answers(world: World) -> None:
    evaluation, runs, notes = load_evaluation(world.sources, LABELS)
    assert (runs, notes) == ([], [])
    assert evaluation.ids == world.table["ImageID"].tolist()
    assert evaluation.truth.tolist() == world.table["ans"].tolist()
    given = [codes.tolist() for codes in evaluation.submissions.values()]
    assert given == [world.table["given"].tolist(), world.table["other"].tolist()]
    assert evaluation.people is not None
    assert evaluation.people.tolist() == world.table["person"].tolist()
    assert evaluation.numbers[0].measured.tolist() == world.table["age"].tolist()
    for task in TASKS:
        np.testing.assert_array_equal(evaluation.heads[task].merged, world.heads[task])
        np.testing.assert_array_equal(evaluation.heads[task].identity, world.plain[task])


def test_probabilities_of_other_images_are_passed_over_unless_asked_for(
    world: World, sources: EvaluationFiles
) -> None:
    held = arrays(world)
    path = sources.submission.parent / "probabilities.npz"
    np.savez(path, **(held | {"ImageID": np.array([f"x{name}" for name in held["ImageID"]])}))
    evaluation, _, notes = load_evaluation(sources, LABELS)
    assert evaluation.heads == {}
    assert "its 84 images are not the 84 of the answers" in notes[0]
    assert notes[0].endswith(": no calibration error.")
    with pytest.raises(InputError, match="expected the probabilities of this submission"):
        load_evaluation(EvaluationFiles(sources.submission, sources.answers, path), LABELS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mask/classes": np.array(["no", "yes"])}, "mask: classes no, yes; expected wear, "),
        ({"age": np.ones((84, 2)) / 2}, r"age: shape \(84, 2\), expected \(84, 3\)"),
        ({"age/identity": np.ones((84, 3))}, "age/identity: expected probabilities from 0 to 1"),
        ({"ImageID": np.array([b"x", None])}, "cannot be read"),
    ],
)
def test_probabilities_that_do_not_fit_are_told(
    world: World, sources: EvaluationFiles, changes: dict, told: str
) -> None:
    path = sources.submission.parent / "probabilities.npz"
    np.savez(path, **(arrays(world) | changes))
    with pytest.raises(InputError, match=told):
        load_evaluation(EvaluationFiles(sources.submission, sources.answers, path), LABELS)
    evaluation, _, notes = load_evaluation(sources, LABELS)
    assert evaluation.heads == {}
    assert re.search(told, notes[0])
    assert notes[0].endswith(": no calibration error.")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_broken_probabilities_file_is_told(sources: EvaluationFiles, content: bytes) -> None:
    path = sources.submission.parent / "probabilities.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"probabilities\.npz: cannot be read"):
        load_evaluation(EvaluationFiles(sources.submission, sources.answers, path), LABELS)
    evaluation, _, notes = load_evaluation(sources, LABELS)
    assert (evaluation.heads, len(notes)) == ({}, 1)


def test_probabilities_of_another_submission_are_passed_over_unless_asked_for(
    world: World, sources: EvaluationFiles
) -> None:
    path = sources.submission.parent / "probabilities.npz"
    np.savez(path, **arrays(world))
    voted = sources.submission.parent / "voted.csv"
    voted.write_text((world.folder / "b.csv").read_text())
    evaluation, _, notes = load_evaluation(EvaluationFiles(voted, sources.answers), LABELS)
    differ = [
        f"{task} {np.mean(world.heads[task].argmax(1) != world.plain[task].argmax(1)):.0%}" for task in TASKS
    ]
    assert evaluation.heads == {}
    assert notes == [
        f"{path}: the submission answers otherwise than these probabilities ({', '.join(differ)}). "
        "No calibration error."
    ]
    evaluation, _, notes = load_evaluation(EvaluationFiles(voted, sources.answers, path), LABELS)
    assert list(evaluation.heads) == list(TASKS)
    assert "the submission answers otherwise" in notes[0]


def test_a_head_without_probabilities_is_told(world: World, sources: EvaluationFiles) -> None:
    path = sources.submission.parent / "probabilities.npz"
    held = arrays(world)
    np.savez(path, ImageID=held["ImageID"], mask=held["mask"])
    evaluation, _, notes = load_evaluation(sources, LABELS)
    assert notes == [f"{path}: no probabilities of age."]
    assert list(evaluation.heads) == ["mask"]
    assert evaluation.heads["mask"].identity is None


def test_people_of_other_images_are_refused(world: World, sources: EvaluationFiles, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("ImageID,person\nother.jpg,1\n")
    with pytest.raises(InputError, match="none of its 1 images is among the answers"):
        load_evaluation(EvaluationFiles(sources.submission, sources.answers, people=people), LABELS)
    people.write_text("ImageID,person\n000.jpg,1\n001.jpg,1\n")
    evaluation, _, notes = load_evaluation(
        EvaluationFiles(sources.submission, sources.answers, people=people), LABELS
    )
    assert len(set(evaluation.groups.tolist())) == 83
    assert "82 of 84 images name no person" in notes[0]


def test_what_a_table_of_people_lacks_comes_from_the_answers(
    world: World, sources: EvaluationFiles, tmp_path: Path
) -> None:
    path = tmp_path / "known.csv"
    for known, other in (("age", "person"), ("person", "age")):
        values = world.table[known].to_numpy()[::-1]
        world.table[["ImageID"]].assign(**{known: values}).to_csv(path, index=False)
        evaluation, _, notes = load_evaluation(
            EvaluationFiles(sources.submission, sources.answers, people=path), LABELS
        )
        others = int((np.digitize(values, [30, 60]) != world.table["ans"] % 3).sum()) if known == "age" else 0
        told = f"{others} of 84 right answers are of another class of age than their age says: are they codes"
        assert [note.startswith(told) for note in notes] == [True] * (others > 0)
        assert (others > 0) == (known == "age")
        assert evaluation.people is not None
        found = {"person": evaluation.people.tolist(), "age": evaluation.numbers[0].measured.tolist()}
        assert found == {known: values.tolist(), other: world.table[other].tolist()}


def test_a_column_that_comes_twice_is_refused(sources: EvaluationFiles, tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("ImageID,person,person\n000.jpg,1,2\n")
    with pytest.raises(InputError, match="columns ImageID, person, person; expected person once"):
        load_evaluation(
            EvaluationFiles(sources.submission, sources.answers, people=tmp_path / "known.csv"), LABELS
        )


def test_runs_that_are_not_there_are_told(sources: EvaluationFiles, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mask/best\.safetensors: no such file, expected the run of mask"):
        load_evaluation(EvaluationFiles(sources.submission, sources.answers, runs=tmp_path), LABELS)
