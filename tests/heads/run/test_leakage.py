"""Whom a backbone has learnt from: of the data folders that it validated on, all but its validation people."""

from pathlib import Path

import numpy as np
import pytest

from heads.run.folder import RunFolder, run_folder, write_arrays
from heads.run.leakage import leakage_warning, leaked_people


@pytest.fixture
def backbone(tmp_path: Path) -> RunFolder:
    """A run of two data folders, validated on one person of the first and two of the second."""
    run = run_folder(tmp_path, "age_backbone")
    run.folder.mkdir(parents=True)
    portraits = "portraits-00000002"
    people = ["train-00000001/anna", f"{portraits}/ben", f"{portraits}/cleo", f"{portraits}/cleo"]
    write_arrays(run.validation, {"person": np.array(people)})
    return run


@pytest.mark.parametrize(
    ("people", "seen"),
    [
        (["train-00000001/anna"], set()),
        (["train-00000001/anna", "train-00000001/dora", "train-00000001/dora"], {"train-00000001/dora"}),
        (["masks-00000003/emil", "train-00000009/dora"], set()),  # data that the backbone was not given
        (["portraits-00000002/anna", "portraits-00000002/cleo"], {"portraits-00000002/anna"}),
    ],
)
def test_seen_are_the_others_of_the_same_data(backbone: RunFolder, people: list[str], seen: set[str]) -> None:
    assert leaked_people(backbone, people) == seen
    told = leakage_warning(backbone, people)
    assert (f"trained on {len(seen)} people" in told) == bool(seen)


def test_a_run_without_its_record_has_seen_nobody_that_is_known(tmp_path: Path) -> None:
    assert leakage_warning(run_folder(tmp_path, "age_backbone"), ["train-00000001/anna"]) == ""


@pytest.mark.parametrize(
    ("trained_on", "judged_on", "seen"),
    [
        ("train-00000001", "masked-00000004/train-00000001", True),
        ("train-00000001", "again-00000006/masked-00000004/train-00000001", True),
        ("masked-00000004/train-00000001", "train-00000001", True),
        ("masked-00000004/train-00000001", "other-00000005/train-00000001", True),
        ("train-00000001", "masked-00000004/other-00000005", False),
        ("masked-00000004/train-00000001", "masked-00000004/other-00000005", False),
    ],
)
def test_who_was_drawn_on_is_known_by_the_drawn_images(
    trained_on: str, judged_on: str, seen: bool, tmp_path: Path
) -> None:
    run = run_folder(tmp_path, "age_backbone")
    run.folder.mkdir(parents=True)
    write_arrays(run.validation, {"person": np.array([f"{trained_on}/anna"])})
    people = [f"{judged_on}/anna", f"{judged_on}/dora"]
    assert leaked_people(run, people) == ({f"{judged_on}/dora"} if seen else set())


def test_data_whose_files_changed_since_are_told(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "age_backbone")
    run.folder.mkdir(parents=True)
    write_arrays(run.validation, {"person": np.array(["my-train-0123abcd/anna", "faces-0123abcd/ben"])})
    told = leakage_warning(run, ["my-train-4567abcd/dora", "faces-0123abcd/ben", "masks-89abcdef/emil"])
    assert told.count("trained on a folder my-train of other files") == 1
    assert told.count("\n") == 1
    assert leakage_warning(run, ["my-train-0123abcd/anna", "masks-89abcdef/emil"]) == ""
