"""Long runs: memory stays flat, no file stays open, and ten times the images take no more memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
FLAT = 1.05
IMAGES = int(os.environ.get("SOAK_IMAGES", "100000"))
Sample = tuple[int, int]


def sample(pid: int) -> Sample:
    """Resident memory of a process in kilobytes, and the number of its open files."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def watch(folder: Path, *arguments: object) -> list[Sample]:
    """Run a script to its end and sample it five times a second."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    samples: list[Sample] = []
    with (folder / "log").open("w") as log:
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            try:
                samples.append(sample(process.pid))
            except (OSError, StopIteration):  # it has just ended
                break
            time.sleep(0.2)
    assert process.wait() == 0, (folder / "log").read_text()
    return samples


def assert_flat(samples: list[Sample]) -> None:
    """After the first tenth neither memory nor open files grow, up to the end, where libraries are unloaded."""
    working = samples[len(samples) // 10 : -max(2, len(samples) // 50)]
    parts = [working[part * len(working) // 10 : (part + 1) * len(working) // 10] for part in range(10)]
    memory, files = ([max(each[place] for each in part) for part in parts] for place in (0, 1))
    print(f"\nMB in tenths of the run {[kilobytes // 1024 for kilobytes in memory]}; open files {files}")
    assert max(memory[1:]) <= FLAT * memory[0]
    assert max(files[1:]) <= files[0] + 1


def test_two_hundred_epochs(faces: Path, configs: Path, tmp_path: Path) -> None:
    given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train", "--runs", tmp_path]
    more = ["--set", "training.epochs=200", "--set", "training.patience=null", "--set", "sampler.per_person=1"]
    assert_flat(watch(tmp_path, "train_task.py", *given, *more))


@pytest.mark.parametrize("views", [[], ["--views", "adaptive", "--margin", 0.05]], ids=["all", "adaptive"])
def test_a_hundred_thousand_images(views: list[object], faces: Path, runs: Path, configs: Path, tmp_path: Path) -> None:
    drawn = sorted((faces / "eval/images").iterdir())

    def combine(count: int) -> list[Sample]:
        folder = tmp_path / str(count)
        (folder / "images").mkdir(parents=True)
        for number in range(count):
            (folder / "images" / f"{number:06d}.jpg").hardlink_to(drawn[number % len(drawn)])
        given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", folder, "--workers", 1, *views]
        samples = watch(folder, "combine.py", *given, "--out", folder / "submission.csv")
        assert len((folder / "submission.csv").read_text().splitlines()) == count + 1
        return samples

    many, few = combine(IMAGES), combine(IMAGES // 10)
    assert_flat(many)
    assert max(many)[0] <= FLAT * max(few)[0]  # kilobytes at the peak
