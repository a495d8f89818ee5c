"""Files are written whole or not at all, by one process at a time; a killed one blocks nobody."""

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.runtime.errors import InputError
from data.runtime.files import hold_lock, remove_unfinished, write_atomically, write_folder_atomically, write_text

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("old", ["old", None])
def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(old: str | None, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    if old is not None:
        write_text(path, old)
    for error in (OSError(errno.ENOSPC, "full"), KeyboardInterrupt()):
        with pytest.raises(type(error)), write_atomically(path) as temporary:  # noqa: PT012
            temporary.write_text("half of the ne", encoding="utf-8")
            raise error
        assert getattr(error, "filename", str(path)) == str(path), "and not the temporary one"
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("best.safetensors", old)] * (old is not None)


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ä.npz"
    write_text(path, "ß, 顔\n")
    with write_atomically(path) as temporary:
        np.savez(temporary, x=np.arange(3))  # which goes by the suffix
        assert path.read_bytes() == "ß, 顔\n".encode()
    with np.load(path) as saved:
        assert saved["x"].tolist() == [0, 1, 2]
    assert list(path.parent.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    write_text(tmp_path / "shared.txt", "")
    os.umask(before)
    assert stat.S_IMODE((tmp_path / "shared.txt").stat().st_mode) == 0o640


def test_a_folder_is_new_and_complete_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "faces"
    with pytest.raises(ZeroDivisionError), write_folder_atomically(path) as folder:  # noqa: PT012
        (folder / "1.jpg").touch()
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []
    path.mkdir()  # an empty one is taken
    with write_folder_atomically(path) as folder:
        (folder / "1.jpg").touch()
        assert list(path.iterdir()) == []
    assert [file.name for file in path.iterdir()] == ["1.jpg"]
    with pytest.raises(InputError, match="exists and is not an empty folder"), write_folder_atomically(path):
        pass


def test_files_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    others = (".lock", "best.safetensors", ".hidden", ".tmp", ".submission.unfinished-x.csv")
    for name in (*others, ".best.unfinished-abc.safetensors", ".tmpUHbcVw"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, "best")
    assert {path.name for path in tmp_path.iterdir()} == {*others, ".tmpUHbcVw"}
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others) - {".submission.unfinished-x.csv"}


HOLDER = """
import os, sys, time
from pathlib import Path
from data.runtime.files import hold_lock
ready, started = os.pipe()
with hold_lock(Path(sys.argv[1]), "it"):
    if os.fork() == 0:
        os.setpgid(0, 0)
        os.write(started, b"1")  # it has let go of the lock, as the fork does first
        time.sleep(5)  # a worker that outlives its parent
        os._exit(0)
    os.read(ready, 1)
    print("holding", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_process_is_refused_and_a_killed_one_blocks_nobody(tmp_path: Path, killed: bool) -> None:
    file = tmp_path / "runs" / ".lock"
    call = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(call, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(InputError, match=rf"runs/mask is in use by process {holder.pid} on .*; wait"):
            hold_lock(file, "runs/mask").__enter__()
        if killed:  # its worker still lives
            holder.kill()
        else:
            holder.stdin.close()
        holder.wait()
        with hold_lock(file, "runs/mask"):
            assert file.read_text().startswith(f" process {os.getpid()}")


def test_a_process_waits_until_the_other_has_ended(tmp_path: Path, held_elsewhere: Callable, capsys) -> None:
    events: list[str] = []

    def hold() -> None:
        with hold_lock(tmp_path / ".lock", "it", waiting="waiting"):
            events.append("held here" if (tmp_path / ".lock").exists() else "held, but removed by the other")

    thread = threading.Thread(target=hold)
    with held_elsewhere(tmp_path / ".lock"):
        thread.start()
        output = ""
        while not output and thread.is_alive():
            output = capsys.readouterr().out
        time.sleep(0.2)  # a lock that did not wait would be held by now
        events.append("released there")
    thread.join()
    assert (output, events) == ("waiting\n", ["released there", "held here"])


def test_no_lock_file_and_no_empty_folder_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mask"
    with hold_lock(folder / ".lock", "runs/mask"):
        assert folder.is_dir()
    assert not folder.exists()
    with hold_lock(folder / ".lock", "runs/mask"):
        (folder / "best.safetensors").touch()
    assert [path.name for path in folder.iterdir()] == ["best.safetensors"]
