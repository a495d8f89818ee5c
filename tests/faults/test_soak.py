"""Long runs: memory stays flat, no file stays open, and a longer listing takes no more memory."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FLAT = 1.05
Sample = tuple[float, int, int]


def memory_and_files(pid: int) -> tuple[int, int]:
    """Resident memory of a process, in kilobytes, and how many files it has open."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]), len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 (names alone, and quickly)


def watched(pause: float, *arguments: object) -> list[Sample]:
    """Run a script and return (seconds, kilobytes, files) from when it has begun its work to its end."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        reader.start()
        samples: list[Sample] = []
        started = time.monotonic()
        while process.poll() is None:
            try:
                samples.append((time.monotonic() - started, *memory_and_files(process.pid)))
            except (OSError, StopIteration):  # it has just ended
                break
            time.sleep(pause)
        reader.join()
    assert process.returncode == 0, lines[-5:]
    return samples


def assert_flat(samples: list[Sample], what: str) -> None:
    """After the first tenth neither memory nor open files grow; the end, the last samples, is left out."""
    working = samples[len(samples) // 10 : -max(2, len(samples) // 50)]
    parts = [working[part * len(working) // 10 : (part + 1) * len(working) // 10] for part in range(10)]
    highest = [max(memory for _, memory, _ in part) for part in parts]
    files = [max(count for _, _, count in part) for part in parts]
    print(
        f"\n{what}: {samples[-1][0]:.0f} s; MB in tenths {[kb // 1024 for kb in highest]}; open files {files}"
    )
    assert max(highest[1:]) <= FLAT * highest[0]
    assert max(files[1:]) <= files[0] + 1


@pytest.fixture(scope="module")
def listing(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Path]]:
    """Folders with so many images: links to a few drawn faces."""
    known = sorted((faces / "eval" / "images").iterdir())

    def make(count: int) -> Path:
        folder = tmp_path_factory.mktemp("many")
        (folder / "images").mkdir()
        for path in known:
            (folder / "images" / path.name).write_bytes(path.read_bytes())
        names = [f"{number:06d}.jpg" for number in range(count)]
        for number, name in enumerate(names):
            os.link(folder / "images" / known[number % len(known)].name, folder / "images" / name)
        (folder / "info.csv").write_text("ImageID\n" + "".join(f"{name}\n" for name in names))
        return folder

    return make


def combined(data: Path, runs: Path, configs: Path, out: Path, pause: float) -> list[Sample]:
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", data, "--workers", 1]
    return watched(pause, "combine.py", *given, "--out", out / "submission.csv")


@pytest.mark.faults
def test_two_hundred_epochs(faces: Path, configs: Path, tmp_path: Path) -> None:
    given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train", "--runs", tmp_path]
    more = ["--set", "training.epochs=200", "--set", "training.patience=null", "--set", "sampler.per_person=1"]
    assert_flat(watched(0.2, "train_task.py", *given, *more), "200 epochs")


@pytest.mark.faults
def test_a_hundred_thousand_images(
    listing: Callable[[int], Path], runs: Path, configs: Path, tmp_path: Path
) -> None:
    count = int(os.environ.get("SOAK_IMAGES", "100000"))
    samples = combined(listing(count), runs, configs, tmp_path, 0.5)
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == count + 1
    assert_flat(samples, f"{count} images")


# combine.py whose heads cost nothing, for what grows with rows: listing, waiting batches, parts, merging. The
# probabilities are those of the pixels' means, so that some answers are settled and others are not. Its last
# line is the peak of its memory until the work is done: unloading torch's libraries adds 130 MB for a moment.
CHEAP = """
import atexit, re, runpy, sys
import numpy as np
import data.runtime.memory, ensemble.inference.predictor
from ensemble.inference.predictor import Task
data.runtime.memory.reuse_freed_memory = lambda: False
image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
def view_logits(task, shown, names=None):
    means = shown.pixels.float().mean(dim=(2, 3)).sum(dim=1, keepdim=True)
    logits = 5 * (means * 1000).sin() * ensemble.inference.predictor.torch.arange(task.target.outputs)
    return logits.expand(len(task.views if names is None else list(names)), 1, -1, -1)
Task.view_logits = view_logits
ensemble.inference.predictor.decode = lambda path, least: image // (1 + int(path.stem) % 7)
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def peak(*arguments: object) -> int:
    """Run combine.py as `CHEAP` has it, and return the most memory that it took, in kilobytes.

    Freed memory goes back at once: kept in pieces, as combine.py does for speed, it makes 100 MB of difference
    between two runs of one command.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", CHEAP, "combine.py", *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("views", [[], ["--views", "adaptive", "--margin", 0.5]], ids=["all", "adaptive"])
def test_ten_times_the_images_take_no_more_memory(
    views: list[object], listing: Callable[[int], Path], runs: Path, configs: Path, tmp_path: Path
) -> None:
    few = int(os.environ.get("SOAK_ROWS", "2000"))
    peaks = []
    for count in (few, 10 * few):
        out = tmp_path / str(count) / "submission.csv"
        given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", listing(count), "--out", out]
        peaks.append(peak(*given, "--workers", 0, *views))
        assert len(out.read_text().splitlines()) == count + 1
        with np.load(out.parent / "probabilities.npz") as arrays:
            assert bool(views) == ("mask/views" in arrays)
            assert not views or 0 < (arrays["mask/views"] > 1).sum() < count
    print(f"\npeak memory: {peaks[0] // 1024} MB for {few} rows, {peaks[1] // 1024} MB for {10 * few}")
    assert peaks[1] <= FLAT * peaks[0]
