"""train_task.py with several processes: the run that one process leaves, and a lost process ends all of them."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.scale.conftest import Launch

pytestmark = pytest.mark.scale
# Batch norm frozen with the backbone and no dropout: what is left is equal to one process up to rounding.
EXACT = ("backbone.freeze=layer4", "classifier={hidden: [16], dropout: 0}", "sampler.power=0.5")


def arguments(configs: Path, faces: Path, runs: Path, *settings: str) -> list[object]:
    given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train", "--runs", runs]
    return [*given, *(word for setting in (*EXACT, *settings) for word in ("--set", setting))]


def epochs(runs: Path) -> list[int]:
    path = runs / "mask" / "history.csv"
    return pd.read_csv(path)["epoch"].tolist() if path.is_file() else []


TAUGHT = (
    "loss.terms=[{name: focal}, {name: distillation}]",
    "teacher={runs: ['{runs}/mask'], allow_training_people: true, look_at: {column: mask, value: normal}}",
)

EMBEDDED = ("loss.terms=[{name: focal}, {name: embedding}]", "teacher.file={embeddings}")


@pytest.mark.parametrize("settings", [(), TAUGHT, EMBEDDED], ids=["labels", "teacher", "embeddings"])
def test_two_processes_leave_the_run_that_one_leaves(
    settings: tuple[str, ...], launch: Launch, configs: Path, faces: Path, runs: Path, tmp_path: Path
) -> None:
    file, paths = tmp_path / "embeddings.npz", sorted(map(str, (faces / "train/images").glob("*/*")))
    np.savez(file, path=paths, embeddings=np.random.default_rng(0).normal(size=(len(paths), 4)))
    settings = tuple(setting.replace("{runs}", str(runs)).replace("{embeddings}", str(file)) for setting in settings)
    tables, arrays = [], []
    for processes in (1, 2):
        runs = tmp_path / str(processes)
        given = arguments(configs, faces, runs, "training.epochs=3", *settings)
        process = launch("train_task.py", *given, processes=processes)
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert out.count("images to train") == out.count("best on validation") == 1
        assert len(list((runs / "mask/tensorboard").iterdir())) == 1
        tables.append(pd.read_csv(runs / "mask/history.csv"))
        arrays.append(np.load(runs / "mask/validation.npz"))
    (one, two), (alone, shared) = tables, arrays
    assert two["epoch"].tolist() == [1, 2, 3]
    assert two["train_loss"].tolist() == pytest.approx(one["train_loss"].tolist(), abs=1e-5)
    assert two[["macro_f1", "accuracy"]].equals(one[["macro_f1", "accuracy"]])
    assert shared["path"].tolist() == alone["path"].tolist()
    np.testing.assert_allclose(shared["probabilities"], alone["probabilities"], atol=1e-5)


def test_a_killed_process_ends_the_run_and_resume_goes_on(
    launch: Launch, configs: Path, faces: Path, tmp_path: Path
) -> None:
    given = arguments(configs, faces, tmp_path, "training.epochs=40")
    process = launch("train_task.py", *given, processes=2)
    while not epochs(tmp_path):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(next(child.pid for child in children if child.environ().get("RANK") == "1"), signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "start the same command with --resume to go on" in err, err
    done = len(epochs(tmp_path))
    assert 1 <= done < 40
    # On one process this time: the batches are the same, whatever computes them.
    resumed = launch("train_task.py", *given, "--resume", processes=1)
    while len(epochs(tmp_path)) <= done + 1:
        assert resumed.poll() is None, resumed.communicate()[1]
        time.sleep(0.1)
    resumed.kill()
    assert epochs(tmp_path)[: done + 2] == list(range(1, done + 3))
