"""One process at a time, and a killed one blocks nobody."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.runtime.errors import InputError
from data.runtime.files import hold_lock

ROOT = Path(__file__).parents[3]
HOLDER = """
import os, sys, time
from pathlib import Path
from data.runtime.files import hold_lock
with hold_lock(Path(sys.argv[1]), "it"):
    if os.fork() == 0:
        os.setpgid(0, 0)
        time.sleep(5)  # a worker that outlives its parent
        os._exit(0)
    print("holding", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    call = [sys.executable, "-c", HOLDER, str(tmp_path / "runs" / ".lock")]
    with subprocess.Popen(call, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "holding\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_or_waits_if_it_asks_to(
    holder: subprocess.Popen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "runs" / ".lock"
    with pytest.raises(InputError, match=rf"runs/mask is in use by process {holder.pid} on .*; wait"):
        hold_lock(file, "runs/mask").__enter__()
    holder.stdin.write("\n")
    holder.stdin.flush()
    with hold_lock(file, "runs/mask", waiting="waiting"):
        assert file.read_text().startswith(f"process {os.getpid()}")


def test_a_killed_holder_blocks_nobody_even_while_its_worker_lives(holder: subprocess.Popen, tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    with hold_lock(tmp_path / "runs" / ".lock", "runs/mask"):
        pass


def test_no_lock_file_and_no_empty_folder_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mask"
    with hold_lock(folder / ".lock", "runs/mask"):
        assert folder.is_dir()
    assert not folder.exists()
    with hold_lock(folder / ".lock", "runs/mask"):
        (folder / "best.safetensors").touch()
    assert [path.name for path in folder.iterdir()] == ["best.safetensors"]
