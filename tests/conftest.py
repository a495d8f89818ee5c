"""Fixtures of many tests: drawn faces, the shipped configs made small, heads trained with them."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads wait for one another where tensors are this small

import io
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
from hypothesis import settings

from data.runtime.errors import run_script
from data.runtime.files import hold_lock
from data.synthetic.dataset import write_dataset

ROOT = Path(__file__).parents[1]

# How long an example takes depends on what else runs on the machine; which examples run must not depend on chance.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

SIZE = "{height: 48, width: 36}"
TINY = [
    "backbone={name: resnet18, weights: random}",
    "split.folds=5",  # of 24 people a tenth is two or three
    "training.epochs=1",
    "training.batch_size=16",
    "training.workers=0",
    "training.precision=fp32",
    "sampler.per_person=2",
    "views={steps: [hflip]}",
    f"pixels.train=[hflip, {{letterbox: {SIZE}}}]",
    f"pixels.evaluate=[{{letterbox: {SIZE}}}]",
]


# Tests rest on what such heads learn in an epoch, not on the shipped learning rates.
RATES = {"age_backbone": 1.5e-3, "age": 1e-4, "mask": 6e-4}


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a script."""

    code: int
    out: str
    err: str


def call_script(script: ModuleType, *arguments: object) -> Outcome:
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = [f"{script.__name__}.py", *map(str, arguments)]
    with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            run_script(script.main)
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.getvalue(), err.getvalue())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process of pytest-xdist is left with one at the end."""
    items.sort(key=lambda item: not {"scripts", "faults"} & set(item.path.parts))


@pytest.fixture(autouse=True)
def _no_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def call() -> Callable[..., Outcome]:
    """Run a script as its command line would, in this process: call(train_task, "--task", "mask")."""
    return call_script


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build a folder once for all workers of pytest-xdist: build_once("faces", function of an empty folder)."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def build(name: str, fill: Callable[[Path], None]) -> Path:
        folder = base / name
        with hold_lock(base / f"{name}.lock", name, waiting=f"another worker makes {name}"):
            if not folder.exists():
                unfinished = Path(tempfile.mkdtemp(dir=base))
                fill(unfinished)
                unfinished.rename(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def faces(build_once: Callable[..., Path]) -> Path:
    """Drawn faces: 24 people in train/, 8 others in eval/, images 48 wide and 64 high."""
    return build_once("faces", lambda folder: write_dataset(folder, 24, 8, (48, 64), seed=0, processes=1))


@pytest.fixture(scope="session")
def configs(build_once: Callable[..., Path]) -> Path:
    """The shipped configs with small images, random backbones and one epoch."""
    from heads.config.loader import load_config
    from heads.config.task import TaskConfig

    def write(folder: Path) -> None:
        for path in (ROOT / "configs").glob("*.yaml"):
            joint = path.name == "joint.yaml"
            own = [*TINY, f"optimiser.lr={RATES.get(path.stem, 1.2e-3)}"]
            text = path.read_text("utf-8") if joint else load_config(TaskConfig, path, own).to_yaml()
            (folder / path.name).write_text(text, encoding="utf-8")

    return build_once("configs", write)


@pytest.fixture(scope="session")
def train(configs: Path) -> Callable[..., Outcome]:
    """Train a head with its small config: train("mask", "--data", folder, "--runs", runs)."""
    import train_task

    def train_one(task: str, *arguments: object) -> Outcome:
        outcome = call_script(train_task, "--task", task, "--config", configs / f"{task}.yaml", *arguments)
        assert outcome.code == 0, outcome.err
        return outcome

    return train_one


@pytest.fixture(scope="session")
def runs(faces: Path, train: Callable[..., Outcome], build_once: Callable[..., Path]) -> Path:
    """A run of each of mask, gender and age on the drawn faces; not to be written to."""

    def train_all(folder: Path) -> None:
        for task in ("mask", "gender", "age"):
            train(task, "--data", faces / "train", "--runs", folder)

    return build_once("runs", train_all)


@pytest.fixture
def heeds_sigint() -> Iterator[None]:
    """Restore Python's handler of SIGINT, which a shell's background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def held_elsewhere() -> Callable[[Path], AbstractContextManager[int]]:
    """Let another process hold a lock file while the block runs; gives that process's number."""
    program = (
        "import sys, pathlib, data.runtime.files as locks\n"
        "with locks.hold_lock(pathlib.Path(sys.argv[1]), 'it'): print('held', flush=True); sys.stdin.read()"
    )

    @contextmanager
    def held(file: Path) -> Iterator[int]:
        command = [sys.executable, "-c", program, str(file)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout.readline() == b"held\n"
            yield other.pid
            other.communicate()

    return held
