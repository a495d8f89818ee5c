"""A run's manifest finds changed files, and run:NAME is the run of the same fold."""

import hashlib
import json
from pathlib import Path

import pytest

from data.runtime.errors import InputError
from heads.run.folder import find_source_run, run_folder, verify_checksum, write_manifest


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
