"""A run's manifest finds changed files, run:NAME is the run of the same fold, and leaked people are reported."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data.runtime.errors import InputError
from heads.run import folder as folders
from heads.run.folder import RunFolder, find_source_run, run_folder, verify_checksum, write_manifest
from heads.run.leakage import leakage_warning


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("best.safetensors", "tensorboard/events", ".lock", "fold-1/best.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_the_manifest_lists_every_file_of_the_run(folder: Path) -> None:
    checksums = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("best.safetensors", "tensorboard/events")}
    found, warning = verify_checksum(folder / "best.safetensors")
    assert found == checksums["best.safetensors"]
    assert "no manifest.json beside it" in warning
    for _ in range(2):  # it does not list itself
        write_manifest(folder)
    assert json.loads((folder / "manifest.json").read_text())["sha256"] == checksums
    assert verify_checksum(folder / "best.safetensors") == (found, "")
    write_manifest(folder, growing=folder / "tensorboard")
    assert list(json.loads((folder / "manifest.json").read_text())["sha256"]) == ["best.safetensors"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("best.safetensors", b"other"),
        *(("manifest.json", content) for content in (b'{"sha256": {}}', b'{"sha256": 3}', b"{", b"\xff")),
    ],
)
def test_a_changed_file_is_refused(name: str, content: bytes, folder: Path) -> None:
    write_manifest(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=r"train_task.py --resume|cannot be read"):
        verify_checksum(folder / "best.safetensors")


@pytest.mark.parametrize(
    ("fold", "existing", "expected"),
    [(None, [None], None), (2, [None], None), (2, [None, 2], 2), (1, [None, 2], None), (2, [2], 2)],
)
def test_a_backbone_is_of_the_same_fold_of_its_run_if_that_has_one(
    tmp_path: Path, fold: int | None, existing: list[int | None], expected: int | None
) -> None:
    with pytest.raises(InputError, match=f"train it first with train_task.py --task base --runs {tmp_path}"):
        find_source_run("run:base", tmp_path, fold)
    for other in existing:
        path = run_folder(tmp_path, "base", other).best
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    run = find_source_run("run:base", tmp_path, fold)
    assert run is not None
    assert run.best == run_folder(tmp_path, "base", expected).best
    assert find_source_run("imagenet", tmp_path, fold) is None


TRAIN, OTHER = "train-00000001", "portraits-00000002"
# Images derived from others: the original's name comes after.
MASKED, AGAIN = "masked-00000004", "again-00000006"


def validated_run(folder: Path, people: Sequence[str]) -> RunFolder:
    run, count = run_folder(folder, "age_backbone"), len(people)
    run.folder.mkdir(parents=True)
    text = {"path": np.full(count, ""), "shot": np.full(count, ""), "person": np.array(people)}
    numbers = {"truth": np.zeros(count, np.int64), "probabilities": np.ones((count, 1)), "borders": np.zeros(0)}
    label = {"column": np.array("age"), "folds": np.array(5), "classes": np.array(["any"])}
    folders.write_arrays(run.validation, text | numbers | label)
    return run


@pytest.mark.parametrize(
    ("validated", "people", "leaked"),
    [
        ([f"{TRAIN}/anna"], [f"{TRAIN}/anna"], 0),
        ([f"{TRAIN}/anna"], [f"{TRAIN}/anna", f"{TRAIN}/dora", f"{TRAIN}/dora"], 1),
        ([f"{TRAIN}/anna"], ["masks-00000003/emil", f"{OTHER}/dora"], 0),  # data that the backbone did not have
        ([f"{TRAIN}/anna", f"{OTHER}/cleo"], [f"{OTHER}/anna", f"{OTHER}/cleo"], 1),
        ([f"{TRAIN}/anna"], [f"{AGAIN}/{MASKED}/{TRAIN}/anna", f"{AGAIN}/{MASKED}/{TRAIN}/dora"], 1),
        ([f"{MASKED}/{TRAIN}/anna"], [f"{AGAIN}/{TRAIN}/anna", f"{AGAIN}/{TRAIN}/dora"], 1),
        ([f"{TRAIN}/anna"], [f"{MASKED}/{OTHER}/anna", f"{MASKED}/{OTHER}/dora"], 0),
    ],
)
def test_leaked_people_are_counted(validated: list[str], people: list[str], leaked: int, tmp_path: Path) -> None:
    warning = leakage_warning(validated_run(tmp_path, validated), people)
    expected = f"trained on {leaked} people in the head's validation set"
    assert warning.count(expected) == warning.count("\n") == bool(leaked)


def test_a_source_whose_files_changed_is_reported(tmp_path: Path) -> None:
    assert leakage_warning(run_folder(tmp_path, "age_backbone"), [f"{TRAIN}/anna"]) == ""  # not validated
    run = validated_run(tmp_path, ["my-train-0123abcd/anna", "faces-0123abcd/ben"])
    warning = leakage_warning(run, ["my-train-4567abcd/dora", "faces-0123abcd/ben", "masks-89abcdef/emil"])
    assert warning.count("trained on a folder my-train with other files") == warning.count("\n") == 1
    assert leakage_warning(run, ["my-train-0123abcd/anna", "masks-89abcdef/emil"]) == ""
