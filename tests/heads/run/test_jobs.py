"""Jobs run in their order, side by side on devices, and one that fails takes none along but those after it."""

import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from data.runtime.errors import InputError
from heads.run.jobs import SKIPPED, Job, list_devices, plan_jobs, run_jobs

NOTE = """
import os, pathlib, sys, time
folder, name, code, pause = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
meets, late = sys.argv[5], time.monotonic() + 60
began = time.monotonic()
(folder / f"{name}.began").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
time.sleep(pause)
while meets and not (folder / f"{meets}.began").exists():
    if time.monotonic() > late:
        sys.exit(f"{name} never met {meets}")
    time.sleep(0.01)
print("line of", name)
(folder / f"{name}.times").write_text(f"{began} {time.monotonic()}")
os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
"""


def job(
    folder: Path, name: str, code: int = 0, after: tuple[str, ...] = (), pause: float = 0.0, meets: str = ""
) -> Job:
    """Notes when it runs; with `meets` it does not end before that job has begun."""
    command = [sys.executable, "-c", NOTE, str(folder), name, str(code), str(pause), meets]
    return Job(name, command, frozenset(after))


def times(folder: Path, name: str) -> tuple[float, float]:
    began, ended = (folder / f"{name}.times").read_text().split()
    return float(began), float(ended)


def test_one_after_another_without_devices(tmp_path: Path) -> None:
    codes = run_jobs([job(tmp_path, "b", after=("a",)), job(tmp_path, "a", pause=0.2), job(tmp_path, "c")], [])
    assert codes == {"b": 0, "a": 0, "c": 0}
    spans = sorted(times(tmp_path, name) for name in "abc")
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert times(tmp_path, "a")[1] <= times(tmp_path, "b")[0]


def test_side_by_side_one_a_device(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [job(tmp_path, "a", meets="b"), job(tmp_path, "b", meets="a"), job(tmp_path, "c", after=("a",))]
    assert run_jobs(jobs, [{"CUDA_VISIBLE_DEVICES": name} for name in ("4", "7")]) == {"a": 0, "b": 0, "c": 0}
    first, second = times(tmp_path, "a"), times(tmp_path, "b")
    assert max(first[0], second[0]) < min(first[1], second[1])
    assert {(tmp_path / f"{name}.began").read_text() for name in "ab"} == {"4", "7"}
    assert "a | line of a\n" in capfd.readouterr().out


@pytest.mark.parametrize("code", [1, 2, -9])
def test_a_failure_takes_along_what_waits_for_it_and_nothing_else(tmp_path: Path, code: int) -> None:
    jobs = [job(tmp_path, "base", code), job(tmp_path, "age", after=("base",)), job(tmp_path, "mask")]
    jobs.append(job(tmp_path, "fine", after=("age",)))
    assert run_jobs(jobs, []) == {"base": code, "age": SKIPPED, "mask": 0, "fine": SKIPPED}
    assert not (tmp_path / "age.began").exists()


def test_a_circle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a \(after b\), b \(after a\): wait for one another"):
        run_jobs([job(tmp_path, "a", after=("b",)), job(tmp_path, "b", after=("a",))], [])


def test_folds_wait_for_the_same_fold_of_their_backbone() -> None:
    jobs = plan_jobs(["x"], ["age", "base", "age"], [0, 1], {"age": "run:base", "base": "imagenet"})
    assert [(job.name, sorted(job.after)) for job in jobs] == [
        ("age/fold-0", ["base/fold-0"]),
        ("age/fold-1", ["base/fold-1"]),
        ("base/fold-0", []),
        ("base/fold-1", []),
    ]
    assert jobs[1].command == ["x", "--task", "age", "--fold", "1"]


def test_a_backbone_that_was_not_asked_for_is_not_waited_for() -> None:
    [only] = plan_jobs(["x"], ["age"], [None], {"age": "run:base"})
    assert only.after == frozenset()


def test_the_environment_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ)
    run_jobs([job(tmp_path, "a"), job(tmp_path, "b")], [{"OMP_NUM_THREADS": "3"}] * 2)
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("cores", "jobs", "asked", "expected"),
    [
        (2, 4, None, [{"OMP_NUM_THREADS": "1"}] * 2),
        (16, 3, None, [{"OMP_NUM_THREADS": "5"}] * 3),
        (1, 3, None, [{"OMP_NUM_THREADS": "1"}]),
        (8, 4, "4", [{}] * 2),
        (2, 4, "4", [{}]),
        (2, 2, "nonsense", [{"OMP_NUM_THREADS": "1"}] * 2),
    ],
)
def test_without_devices_cores_are_shared_out(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    jobs: int,
    asked: str | None,
    expected: list[dict[str, str]],
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("heads.run.jobs.cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert list_devices(jobs) == expected


def test_devices_come_before_cores_and_only_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert list_devices(4) == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert list_devices(1) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
