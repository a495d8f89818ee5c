"""Jobs run in their order, side by side on devices; a failed job stops only the jobs that depend on it."""

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from data.runtime.errors import InputError
from heads.run.jobs import (
    SKIPPED,
    THREADS_FILE,
    Job,
    list_devices,
    plan_jobs,
    run_jobs,
    run_side_by_side,
    use_thread_share,
)
from heads.run.stamp import Stamp

# Notes when it runs and on which device; given another job's name, it waits until that one has started.
PROGRAM = """
import os, pathlib, sys, time
folder, name, code, other = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
start, limit = time.monotonic(), time.monotonic() + 60
names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
(folder / f"{name}.device").write_text(next(filter(None, map(os.environ.get, names)), "none"))
while other and not (folder / f"{other}.device").exists():
    if time.monotonic() > limit:
        sys.exit(f"{name} never met {other}")
    time.sleep(0.01)
sys.stdout.buffer.write(b"line of " + name.encode() + b" \\xff\\n")
(folder / f"{name}.times").write_text(f"{start} {time.monotonic()}")
os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
"""

# Waits until its share of the cores was each of its arguments, and notes each; without arguments it must have none.
# Then it waits until the file that its second argument names is there, if it names one.
WAIT_FOR_SHARES = f"""
import os, pathlib, sys, time
limit, file = time.monotonic() + 60, os.environ.get("{THREADS_FILE}")
note, other, *shares = sys.argv[1:]
if not shares:
    sys.exit(0 if file is None else "found a share")
for share in shares:
    while not os.path.exists(file) or pathlib.Path(file).read_text() != share:
        if time.monotonic() > limit:
            sys.exit(f"never had {{share}} threads")
        time.sleep(0.01)
    pathlib.Path(note + share).touch()
while other and not os.path.exists(other):
    if time.monotonic() > limit:
        sys.exit(f"never found {{other}}")
    time.sleep(0.01)
"""


def job(folder: Path, name: str, code: int = 0, after: tuple[str, ...] = (), meets: str = "") -> Job:
    return Job(name, [sys.executable, "-c", PROGRAM, str(folder), name, str(code), meets], frozenset(after))


def times(folder: Path, name: str) -> list[float]:
    return [float(time) for time in (folder / f"{name}.times").read_text().split()]


def test_jobs_run_one_after_another_without_devices(tmp_path: Path) -> None:
    codes = run_jobs([job(tmp_path, "b", after=("a",)), job(tmp_path, "a"), job(tmp_path, "c")], [])
    assert list(codes.items()) == [("b", 0), ("a", 0), ("c", 0)]
    spans = sorted(times(tmp_path, name) for name in "abc")
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert times(tmp_path, "a")[1] <= times(tmp_path, "b")[0]


def test_a_job_does_not_start_after_a_stop_that_came_while_its_stamp_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, stopped = threading.Event(), threading.Event()

    class SlowStamp(Stamp):
        def start(self, name: str) -> Sequence[str]:
            reading.set()
            assert stopped.wait(60)
            return ()

    def interrupt(*_: object, **__: object) -> None:
        assert reading.wait(60)
        threading.Timer(0.2, stopped.set).start()  # when the others have been told
        raise KeyboardInterrupt

    monkeypatch.setattr("heads.run.jobs.wait", interrupt)
    stamp = SlowStamp(tmp_path / "stamp.json", tmp_path / "result", dict)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([replace(job(tmp_path, "a"), stamp=stamp)], [])
    assert list(tmp_path.iterdir()) == []


def test_jobs_run_side_by_side_one_per_device(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    jobs = [job(tmp_path, "a", meets="b"), job(tmp_path, "b", meets="a"), job(tmp_path, "c", after=("a",))]
    assert run_jobs(jobs, [{"CUDA_VISIBLE_DEVICES": name} for name in ("4", "7")]) == {"a": 0, "b": 0, "c": 0}
    assert {(tmp_path / f"{name}.device").read_text() for name in "ab"} == {"4", "7"}
    assert "a | line of a \ufffd\n" in capfd.readouterr().out
    assert dict(os.environ) == before


@pytest.mark.parametrize("code", [1, 2, -9])
def test_a_failed_job_skips_only_the_jobs_that_depend_on_it_and_a_circle_is_refused(tmp_path: Path, code: int) -> None:
    jobs = [job(tmp_path, "base", code), job(tmp_path, "age", after=("base",)), job(tmp_path, "mask")]
    jobs.append(job(tmp_path, "fine", after=("age",)))
    assert run_jobs(jobs, []) == {"base": code, "age": SKIPPED, "mask": 0, "fine": SKIPPED}
    assert not (tmp_path / "age.device").exists()
    with pytest.raises(InputError, match="a after b after a: found a circle"):
        run_jobs([job(tmp_path, "a", after=("b",)), job(tmp_path, "b", after=("a",))], [])


@pytest.mark.parametrize("threads", [None, "3"])
def test_jobs_that_run_at_the_same_time_share_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: str | None
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("heads.run.jobs.count_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads is not None:  # the user's number is every job's
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    # age runs beside gender and ends first, but not before gender has had its half
    shares, others = {"base": ["6"], "gender": ["3", "6"], "age": ["3"]}, {"age": f"{tmp_path / 'gender3'}"}
    jobs = []
    for name, share in shares.items():
        arguments = [f"{tmp_path / name}", others.get(name, ""), *share] if threads is None else [name, ""]
        jobs.append(Job(name, [sys.executable, "-c", WAIT_FOR_SHARES, *arguments]))
    jobs[1:] = [replace(job, after=frozenset({"base"})) for job in jobs[1:]]
    assert run_side_by_side(jobs) == 0


def test_a_process_uses_the_threads_of_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    file = tmp_path / "threads"
    monkeypatch.setenv(THREADS_FILE, str(file))
    try:
        use_thread_share()  # no file yet
        assert torch.get_num_threads() == before
        for threads in (before + 2, before + 1):
            file.write_text(str(threads))
            use_thread_share()
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_folds_depend_on_the_same_fold_of_their_backbone_if_it_is_trained_too() -> None:
    jobs = plan_jobs(["x"], ["age", "base", "age"], [0, 1], {"age": "run:base", "base": "imagenet"})
    after = {"age/fold-0": ["base/fold-0"], "age/fold-1": ["base/fold-1"], "base/fold-0": [], "base/fold-1": []}
    assert {job.name: sorted(job.after) for job in jobs} == after
    assert jobs[1].command == ["x", "--task", "age", "--fold", "1"]
    assert plan_jobs(["x"], ["age"], [None], {"age": "run:base"})[0].after == frozenset()


@pytest.mark.parametrize(
    ("devices", "cores", "jobs", "environment", "expected"),
    [
        (0, 2, 4, {}, [{"OMP_NUM_THREADS": "1"}] * 2),
        (0, 16, 3, {}, [{"OMP_NUM_THREADS": "5"}] * 3),
        (0, 1, 3, {}, [{"OMP_NUM_THREADS": "1"}]),
        (0, 8, 4, {"OMP_NUM_THREADS": "4"}, [{}] * 2),
        (0, 2, 4, {"OMP_NUM_THREADS": "4"}, [{}]),
        (0, 2, 2, {"OMP_NUM_THREADS": "nonsense"}, [{"OMP_NUM_THREADS": "1"}] * 2),
        (2, 8, 4, {"CUDA_VISIBLE_DEVICES": "3,5"}, [{"CUDA_VISIBLE_DEVICES": name} for name in "35"]),
        (2, 8, 4, {}, [{"CUDA_VISIBLE_DEVICES": name} for name in "01"]),
    ],
)
def test_jobs_share_devices_or_else_cores(
    monkeypatch: pytest.MonkeyPatch, devices: int, cores: int, jobs: int, environment: dict, expected: list
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: devices)
    monkeypatch.setattr("heads.run.jobs.count_cores", lambda: cores)
    with patch.dict("os.environ", environment, clear=True):
        assert list_devices(jobs) == expected
