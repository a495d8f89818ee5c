"""One process at a time, and none that was killed stands in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.runtime.errors import InputError
from data.runtime.locks import hold_lock

ROOT = Path(__file__).parents[3]
HOLDER = """
import os, sys, time
from pathlib import Path
from data.runtime.locks import hold_lock
with hold_lock(Path(sys.argv[1]), "it"):
    if os.fork() == 0:
        os.setpgid(0, 0)
        time.sleep(5)  # a worker that outlives its parent
        os._exit(0)
    print("hold_lock", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen:
    call = [sys.executable, "-c", HOLDER, str(tmp_path / "runs" / ".lock")]
    with subprocess.Popen(call, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "hold_lock\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_by_whom(holder: subprocess.Popen, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"runs/mask is in use by process {holder.pid} on .*; wait"):
        hold_lock(tmp_path / "runs" / ".lock", "runs/mask").__enter__()


def test_it_waits_where_it_is_told_to(
    holder: subprocess.Popen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder.stdin.write("\n")
    holder.stdin.flush()
    with hold_lock(tmp_path / "runs" / ".lock", "runs/mask", waiting="waiting"):
        assert (tmp_path / "runs" / ".lock").read_text().startswith(f"process {os.getpid()}")


def test_a_killed_holder_is_nobody_s_hindrance_even_where_its_worker_lives(
    holder: subprocess.Popen, tmp_path: Path
) -> None:
    holder.kill()
    holder.wait()
    with hold_lock(tmp_path / "runs" / ".lock", "runs/mask"):
        pass


def test_nothing_is_left_where_nothing_was(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "runs" / "mask" / ".lock", "runs/mask"):
        assert (tmp_path / "runs" / "mask").is_dir()
    assert not (tmp_path / "runs" / "mask").exists()
    with hold_lock(tmp_path / "runs" / "age" / ".lock", "runs/age"):
        (tmp_path / "runs" / "age" / "best.safetensors").touch()
    assert [path.name for path in (tmp_path / "runs" / "age").iterdir()] == ["best.safetensors"]
