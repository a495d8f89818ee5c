"""A file is written whole or not at all."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from data.runtime.files import remove_unfinished, write_atomically, write_text


def fail_half_way(path: Path, error: BaseException) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text("half of the ne", encoding="utf-8")
        raise error


def test_text_comes_back_as_it_was_in_a_folder_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ä.txt"
    write_text(path, "60 and over\nß, 顔\n")
    assert path.read_bytes() == "60 and over\nß, 顔\n".encode()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    write_text(path, "old")
    with pytest.raises(OSError, match="disk full"):
        fail_half_way(path, OSError("disk full"))
    assert [(p.name, p.read_text(encoding="utf-8")) for p in tmp_path.iterdir()] == [
        ("best.safetensors", "old")
    ]


def test_a_first_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_half_way(tmp_path / "new.txt", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    write_text(path, "old")
    with write_atomically(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_keeps_the_suffix_that_writers_go_by(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "a.npz") as temporary:
        np.savez(temporary, x=np.arange(3))
    with np.load(tmp_path / "a.npz") as saved:
        assert saved["x"].tolist() == [0, 1, 2]


def test_a_file_is_as_open_to_others_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "shared.txt", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "shared.txt").stat().st_mode) == 0o640


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = (".lock", "best.safetensors", ".hidden", ".tmp", ".submission.unfinished-x.csv")
    for name in (*kept, ".best.unfinished-abc.safetensors", ".tmpUHbcVw"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, "best")
    assert not (tmp_path / ".best.unfinished-abc.safetensors").exists()
    assert (tmp_path / ".submission.unfinished-x.csv").exists()
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept) - {".submission.unfinished-x.csv"}
