"""Whom a trunk has learnt from: of the data folders that it validated on, all but its validation people."""

from pathlib import Path

import numpy as np
import pytest

from heads.run import RunFolder, run_folder, write_arrays
from heads.trunk_run import people_seen, tell_of_seen


@pytest.fixture
def trunk(tmp_path: Path) -> RunFolder:
    """A run of two data folders, validated on one person of the first and two of the second."""
    run = run_folder(tmp_path, "age_backbone")
    run.folder.mkdir(parents=True)
    people = ["train-01/anna", "portraits-02/ben", "portraits-02/cleo", "portraits-02/cleo"]
    write_arrays(run.validation, {"person": np.array(people)})
    return run


@pytest.mark.parametrize(
    ("people", "seen"),
    [
        (["train-01/anna"], set()),
        (["train-01/anna", "train-01/dora", "train-01/dora"], {"train-01/dora"}),
        (["masks-03/emil", "train-09/dora"], set()),  # data that the trunk was not given
        (["portraits-02/anna", "portraits-02/cleo"], {"portraits-02/anna"}),
    ],
)
def test_seen_are_the_others_of_the_same_data(trunk: RunFolder, people: list[str], seen: set[str]) -> None:
    assert people_seen(trunk, people) == seen
    told = tell_of_seen(trunk, people)
    assert (f"trained on {len(seen)} people" in told) == bool(seen)


def test_a_run_without_its_record_has_seen_nobody_that_is_known(tmp_path: Path) -> None:
    assert tell_of_seen(run_folder(tmp_path, "age_backbone"), ["train-01/anna"]) == ""


def test_who_was_drawn_on_is_known_by_the_drawn_photographs(trunk: RunFolder) -> None:
    people = ["masked-04/train-01/anna", "masked-04/train-01/dora", "masked-04/other-05/dora"]
    assert people_seen(trunk, people) == {"masked-04/train-01/dora"}


def test_data_whose_files_changed_since_are_told(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "age_backbone")
    run.folder.mkdir(parents=True)
    write_arrays(run.validation, {"person": np.array(["my-train-0123abcd/anna", "faces-0123abcd/ben"])})
    told = tell_of_seen(run, ["my-train-4567abcd/dora", "faces-0123abcd/ben", "masks-89abcdef/emil"])
    assert told.count("trained on a folder my-train of other files") == 1
    assert told.count("\n") == 1
    assert tell_of_seen(run, ["my-train-0123abcd/anna", "masks-89abcdef/emil"]) == ""
