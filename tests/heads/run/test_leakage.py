"""A backbone was trained on everybody in its data but its own validation people."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from heads.run.folder import RunFolder, run_folder, write_arrays
from heads.run.folder import leakage_warning

TRAIN, OTHER = "train-00000001", "portraits-00000002"
MASKED, AGAIN = ("masked-00000004", "again-00000006")  # images derived from others: the original's name comes after


def validated_run(folder: Path, people: Sequence[str]) -> RunFolder:
    run, count = run_folder(folder, "age_backbone"), len(people)
    run.folder.mkdir(parents=True)
    text = {name: np.full(count, "") for name in ("path", "shot")} | {"person": np.array(people)}
    numbers = {"truth": np.zeros(count, np.int64), "probabilities": np.ones((count, 1)), "borders": np.zeros(0)}
    label = {"column": np.array("age"), "folds": np.array(5), "classes": np.array(["any"])}
    write_arrays(run.validation, text | numbers | label)
    return run


@pytest.mark.parametrize(
    ("validated", "people", "leaked"),
    [
        ([f"{TRAIN}/anna"], [f"{TRAIN}/anna"], 0),
        ([f"{TRAIN}/anna"], [f"{TRAIN}/anna", f"{TRAIN}/dora", f"{TRAIN}/dora"], 1),
        ([f"{TRAIN}/anna"], ["masks-00000003/emil", f"{OTHER}/dora"], 0),  # data that the backbone did not have
        ([f"{TRAIN}/anna", f"{OTHER}/cleo"], [f"{OTHER}/anna", f"{OTHER}/cleo"], 1),
        ([f"{TRAIN}/anna"], [f"{MASKED}/{TRAIN}/anna", f"{MASKED}/{TRAIN}/dora"], 1),
        ([f"{TRAIN}/anna"], [f"{AGAIN}/{MASKED}/{TRAIN}/anna", f"{AGAIN}/{MASKED}/{TRAIN}/dora"], 1),
        ([f"{MASKED}/{TRAIN}/anna"], [f"{TRAIN}/anna", f"{TRAIN}/dora"], 1),
        ([f"{MASKED}/{TRAIN}/anna"], [f"{AGAIN}/{TRAIN}/anna", f"{AGAIN}/{TRAIN}/dora"], 1),
        ([f"{TRAIN}/anna"], [f"{MASKED}/{OTHER}/anna", f"{MASKED}/{OTHER}/dora"], 0),
    ],
)
def test_leaked_people_are_counted(validated: list[str], people: list[str], leaked: int, tmp_path: Path) -> None:
    warning = leakage_warning(validated_run(tmp_path, validated), people)
    assert (f"trained on {leaked} people in the head's validation set" in warning) == bool(leaked)
    assert "trained on a folder" not in warning
    assert warning.count("\n") == bool(leaked)


def test_a_source_whose_files_changed_is_reported(tmp_path: Path) -> None:
    run = validated_run(tmp_path, ["my-train-0123abcd/anna", "faces-0123abcd/ben"])
    warning = leakage_warning(run, ["my-train-4567abcd/dora", "faces-0123abcd/ben", "masks-89abcdef/emil"])
    assert warning.count("trained on a folder my-train with other files") == warning.count("\n") == 1
    assert leakage_warning(run, ["my-train-0123abcd/anna", "masks-89abcdef/emil"]) == ""


def test_a_run_without_validation_file_is_not_checked(tmp_path: Path) -> None:
    assert leakage_warning(run_folder(tmp_path, "age_backbone"), [f"{TRAIN}/anna"]) == ""
