"""The manifest has the checksum of every file of a run, and a file that was changed is refused."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import combine
from data.runtime.errors import InputError
from heads.run.folder import verify_checksum, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("best.safetensors", "tensorboard/events", ".lock", "fold-1/best.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_it_lists_every_file_of_the_run(folder: Path) -> None:
    write_manifest(folder)
    write_manifest(folder)  # does not list itself
    names = ("best.safetensors", "tensorboard/events")
    expected = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    assert json.loads((folder / "manifest.json").read_text())["sha256"] == expected
    write_manifest(folder, growing=folder / "tensorboard")
    assert list(json.loads((folder / "manifest.json").read_text())["sha256"]) == ["best.safetensors"]


def test_an_unchanged_file_is_accepted_and_one_without_a_manifest_with_a_warning(folder: Path) -> None:
    checksum = hashlib.sha256(b"best.safetensors").hexdigest()
    found, warning = verify_checksum(folder / "best.safetensors")
    assert found == checksum
    assert "no manifest.json beside it" in warning
    write_manifest(folder)
    assert verify_checksum(folder / "best.safetensors") == (checksum, "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "best.safetensors").write_text("other"),
        lambda folder: (folder / "manifest.json").write_text('{"sha256": {}}'),
        lambda folder: (folder / "manifest.json").write_text('{"sha256": 3}'),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff"),
    ],
)
def test_a_changed_file_is_refused(damage: Callable[[Path], object], folder: Path) -> None:
    write_manifest(folder)
    damage(folder)
    with pytest.raises(InputError, match=r"train_task.py --resume|cannot be read"):
        verify_checksum(folder / "best.safetensors")


def test_combine_refuses_a_changed_head(runs: Path, faces: Path, configs: Path, call: Callable, tmp_path: Path) -> None:
    for task in ("gender", "age"):
        (tmp_path / task).symlink_to(runs / task)
    shutil.copytree(runs / "mask", tmp_path / "mask")
    best = tmp_path / "mask" / "best.safetensors"
    changed = bytearray(best.read_bytes())
    changed[-1] ^= 1  # one bit of one weight
    best.write_bytes(changed)
    outcome = call(
        *(combine, "--config", configs / "joint.yaml", "--runs", tmp_path, "--data", faces / "eval"),
        *("--out", tmp_path / "out" / "submission.csv", "--workers", 0),
    )
    assert outcome.code == 2
    assert f"error: {best}: its checksum is not the one in manifest.json" in outcome.err
    assert not (tmp_path / "out").exists()
