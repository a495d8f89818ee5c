"""train_task.py: what a run writes, the environment and flags, warnings, refusals, several heads at once."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train_task
from heads.build import load_task_config
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import load_tensors
from heads.run.jobs import Job

ROOT = Path(__file__).parents[2]
TASKS = ("mask", "gender", "age")


def validated(run: Path) -> set[str]:
    with np.load(run / "validation.npz") as saved:
        return set(saved["person"])


@pytest.mark.parametrize("task", TASKS)
def test_a_run_has_its_files(task: str, runs: Path, configs: Path) -> None:
    run, config = runs / task, load_task_config(task, configs)
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "best.safetensors", "last.safetensors", "history.csv", "metrics.json"),
        *("validation.npz", "tensorboard", "manifest.json"),
    }
    assert load_config(TaskConfig, run / "config.yaml") == config
    metrics = json.loads((run / "metrics.json").read_text())
    with (run / "history.csv").open() as file:
        [epoch] = csv.DictReader(file)
    assert metrics["macro_f1"] == float(epoch["macro_f1"])
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert events.Scalars("macro_f1")[0].value == pytest.approx(metrics["macro_f1"])
    assert set(events.Tags()["scalars"]) == set(epoch) - {"epoch"}
    tensors, description = load_tensors(run / "best.safetensors")
    assert description["config"]["pixels"] == config.pixels.model_dump()
    assert tensors["mean"].flatten().tolist() == pytest.approx(config.pixels.mean)
    assert description["versions"]["torch"] == version("torch")
    assert description["validation"]["macro_f1"] == metrics["macro_f1"]


def test_the_environment_gives_defaults_and_a_fold_has_a_folder_of_its_own(
    faces: Path, runs: Path, train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(faces / "train" / "images"))
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path))
    train("mask", "--fold", 1)
    [best] = tmp_path.glob("**/best.safetensors")
    assert best.relative_to(tmp_path) == Path("mask/fold-1/best.safetensors")
    assert load_config(TaskConfig, best.with_name("config.yaml")).split.fold == 1
    assert validated(best.parent).isdisjoint(validated(runs / "mask"))
    flags = ["--data", "a", "--data", "b", "--runs", "mine"]
    with patch.object(sys, "argv", ["train_task.py", "--task", "mask", *flags]):
        args = train_task.parse()
    assert (args.data, args.runs) == ([Path("a"), Path("b")], Path("mine"))


def test_a_finished_head_that_will_be_replaced_is_named_first(
    runs: Path, faces: Path, call: Callable, configs: Path, tmp_path: Path
) -> None:
    wrong = ["--task", "mask", "--config", configs, "--data", faces / "train", "--runs", tmp_path]
    wrong += ["--set", "label.classes=[wear, bare]"]
    line = f"{tmp_path / 'mask'}: this training replaces the finished head there"
    assert line not in call(train_task, *wrong).out
    shutil.copytree(runs / "mask", tmp_path / "mask")
    outcome = call(train_task, *wrong)
    assert (outcome.code, outcome.out) == (2, f"{line}\n")
    assert line not in call(train_task, *wrong, "--resume").out
    assert (tmp_path / "mask/best.safetensors").read_bytes() == (runs / "mask/best.safetensors").read_bytes()


def test_settings_without_effect_or_of_another_head_are_refused_before_training(
    runs: Path, faces: Path, call: Callable, configs: Path, tmp_path: Path
) -> None:
    age = ["--task", "age", "--config", configs / "age.yaml", "--data", faces / "train", "--runs", tmp_path]
    idle = call(train_task, *age, "--set", "loss={terms: [{name: expectation, gamma: 1.0}]}")
    assert idle.code == 2
    assert idle.err.startswith(f"error: {configs / 'age.yaml'}: settings without effect\n  loss.terms: expectation")
    assert "views.steps" in call(train_task, *age, "--set", "views.steps=[hflop]").err
    assert "expected 'mask' as in --task" in call(train_task, "--task", "mask", *age[2:]).err
    backbone = f"backbone={{weights: {runs / 'age' / 'best.safetensors'}, with_classifier: true}}"
    other = "label.distribution={low: 10, high: 110, sigma: 2.5}"
    outcome = call(train_task, *age, "--set", backbone, "--set", other, "--set", "split.strata={gendr: []}")
    assert outcome.code == 2
    strata, leakage, _, problem = outcome.err.splitlines()
    assert "in the head's validation set" in leakage  # other strata are other folds
    assert strata == (
        "split.strata: no source has a column 'gendr'; folds are not balanced by it, did you mean gender?"
    )
    assert problem.startswith("  label.distribution: found 10 to 110, expected 0 to 100")


def test_several_heads_are_jobs_and_a_wrong_yaml_stops_no_other(
    faces: Path, configs: Path, call: Callable[..., Any], tmp_path: Path
) -> None:
    folder, jobs = tmp_path / "configs", []
    shutil.copytree(configs, folder)
    age = (folder / "age.yaml").read_text().replace("weights: random", "weights: run:base")
    (folder / "age.yaml").write_text(age)
    (folder / "gender.yaml").write_text("task: gender\nlabl: {}\n")
    common = ["--config", folder, "--runs", tmp_path / "runs", "--data", faces / "train", "--fold", 0, 1]

    def run_jobs(given: list[Job], *_: object) -> dict[str, int]:
        jobs.extend(given)
        return {job.name: 2 if job.name.startswith("gender") else 0 for job in given}

    with patch("heads.run.jobs.run_jobs", run_jobs):
        outcome = call(train_task, "--task", "age", "base", "gender", *common)
    assert outcome.code == 2
    assert outcome.out.splitlines()[::3] == ["age/fold-0: done", "base/fold-1: done"]
    assert outcome.out.count("gender/fold-1: failed: wrong input (exit code 2)") == 1
    assert {job.name: job.after for job in jobs if job.after} == {
        f"age/fold-{fold}": {f"base/fold-{fold}"} for fold in (0, 1)
    }
    python, script, *arguments = jobs[-1].command
    assert (python, Path(script).name, arguments[-4:]) == (
        *(sys.executable, "train_task.py"),
        ["--task", "gender", "--fold", "1"],
    )
    assert "labl: unknown key" in call(train_task, *arguments).err
    outcome = call(train_task, "--task", "age", "mask", "--config", folder / "age.yaml", *common[2:])
    assert outcome.code == 2
    assert "found one file for several heads, expected their folder" in outcome.err
