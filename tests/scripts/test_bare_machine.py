"""A machine without network, home, shared memory, locale, a second core, or room on the disk."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import combine
import train_task
from data.images.pixel_cache import make_cached_reader
from data.runtime.files import write_text
from heads.run.checkpoint import load_tensors

ROOT = Path(__file__).parents[2]
# Runs the rest of the command line with /dev/shm read-only.
BARE = 'mount --bind -o ro "$1" /dev/shm && shift && exec "$@"'
ONE_CORE = (
    "import os, runpy, sys; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def is_permitted(*command: str) -> bool:
    return bool(shutil.which(command[0])) and not subprocess.run(command, capture_output=True).returncode


def bare(folder: Path, *arguments: object) -> None:
    """Run a script without network, shared memory, a home, a locale, and on one core."""
    (folder / "nothing").mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": "/proc/nowhere", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    command = ["unshare", "-rmn", "sh", "-c", BARE, "sh", folder / "nothing"]
    command += [sys.executable, "-W", "error::ResourceWarning", "-c", ONE_CORE, *arguments]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not is_permitted("unshare", "-rmn", "true"), reason="namespaces are not permitted here")
def test_everything_runs_on_a_bare_machine(faces: Path, configs: Path, runs: Path, tmp_path: Path) -> None:
    given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train"]
    given += ["--set", "training.workers=null", "--runs", tmp_path / "얼굴", "--cache", tmp_path / "cache"]
    bare(tmp_path, "train_task.py", *given)
    here, there = (load_tensors(folder / "mask/best.safetensors")[0] for folder in (tmp_path / "얼굴", runs))
    assert all(here[name].equal(there[name]) for name in there)
    (tmp_path / "eval/images").mkdir(parents=True)
    shutil.copy(next((faces / "eval/images").iterdir()), tmp_path / "eval/images/김민준.jpg")
    out = tmp_path / "out" / "submission.csv"
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", tmp_path / "eval", "--out", out]
    bare(tmp_path, "combine.py", *given)
    assert out.read_text(encoding="utf-8").splitlines()[1].startswith("images/김민준.jpg,")


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of so many megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if not is_permitted("mount", "-t", "tmpfs", "-o", f"size={request.param}m", "none", str(place)):
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("small_disk", [230], indirect=True)
def test_a_disk_that_fills_during_a_checkpoint(small_disk: Path, faces: Path, train: Callable, call: Callable) -> None:
    """An epoch takes 180 MB (a head, and the optimiser's state); two heads do not fit."""
    given, run = ["--data", faces / "train", "--runs", small_disk], small_disk / "mask"
    train("mask", *given)
    before = {path.name for path in run.iterdir() if path.is_file()}
    longer = ("training.epochs=3", "training.validate_every=1", "training.ema=0.5")
    command = ["--task", "mask", "--config", run / "config.yaml", *given]
    outcome = call(train_task, *command, *(word for setting in longer for word in ("--set", setting)))
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {run}/")
    assert "No space left on device; free some space" in outcome.err
    assert outcome.err.count("\n") == 1
    assert {path.name for path in run.iterdir() if path.is_file()} <= before | {"config.yaml"}
    load_tensors(run / "best.safetensors")


@pytest.mark.parametrize("small_disk", [1], indirect=True)
def test_a_disk_that_fills_during_a_cache(small_disk: Path, faces: Path) -> None:
    table = pd.DataFrame({"source": "a", "path": sorted(map(str, (faces / "eval/images").iterdir()))})
    [good] = make_cached_reader(small_disk, table[:20], (48, 36), 10**9, processes=1).files
    before = good.read_bytes()
    for processes in (1, 2):
        with pytest.raises(OSError, match=f"No space left on device.*{small_disk}"):
            make_cached_reader(small_disk, table, (480, 360), 10**9, processes)
    assert good.read_bytes() == before
    assert [path for path in small_disk.iterdir() if path != good] == []


@pytest.mark.parametrize("small_disk", [1], indirect=True)
def test_a_disk_that_fills_during_a_submission(
    small_disk: Path, faces: Path, configs: Path, runs: Path, call: Callable
) -> None:
    out = small_disk / "submission.csv"
    write_text(out, "yesterday's\n")
    room = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes((room.f_bavail - 1) * room.f_frsize))
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", faces / "eval", "--workers", 0]
    outcome = call(combine, *given, "--out", out)
    assert outcome.code == 2
    assert outcome.err.count("error:") == 1
    assert "No space left on device; free some space" in outcome.err
    assert out.read_text() == "yesterday's\n"
