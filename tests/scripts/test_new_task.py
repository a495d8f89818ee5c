"""A fourth task is one new YAML and one new column of the table; no Python changes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

import combine
import train_task
from data.annotations.table import read_table
from ensemble.files.submission import read_codes
from ensemble.joint import encode
from heads.build import build_split
from heads.config.loader import load_config
from heads.config.task import TaskConfig

TASKS = ("mask", "gender", "age", "glasses")


@pytest.fixture(scope="module")
def data(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn people in one labels.csv; every second person wears glasses."""
    folder = tmp_path_factory.mktemp("glasses")
    (folder / "images").symlink_to(faces / "train/images")
    table = read_table([faces / "train"])
    table["glasses"] = np.where(table["person"].factorize()[0] % 2, "no", "yes")
    table["path"] = [f"{path.parent.name}/{path.name}" for path in map(Path, table["path"])]
    columns = ["path", "person", "age", "gender", "mask", "glasses"]
    table[columns].astype({"age": int}).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def four_configs(configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small configs with one new YAML and a joint.yaml that names it."""
    folder = tmp_path_factory.mktemp("four_configs")
    for task in TASKS[:3]:
        (folder / f"{task}.yaml").symlink_to(configs / f"{task}.yaml")
    others = load_config(TaskConfig, configs / "mask.yaml").model_dump(exclude={"task", "label"})
    new = "task: glasses\nlabel: {column: glasses, classes: [no, yes]}\n"
    (folder / "glasses.yaml").write_text(new + yaml.safe_dump(others, sort_keys=False))
    (folder / "joint.yaml").write_text("tasks: [mask, gender, age, glasses]\n")
    return folder


@pytest.fixture(scope="module")
def four_runs(data: Path, four_configs: Path, runs: Path, call: Callable, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("four_runs")
    for task in TASKS[:3]:
        (folder / task).symlink_to(runs / task)
    arguments = ["--config", four_configs / "glasses.yaml", "--data", data, "--runs", folder]
    outcome = call(train_task, "--task", "glasses", *arguments)
    assert outcome.code == 0, outcome.err
    return folder


def test_the_new_task_trains_and_no_stays_text(four_runs: Path) -> None:
    run = four_runs / "glasses"
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics["classes"]) == ["no", "yes"]
    assert 0 < metrics["macro_f1"] <= 1
    assert yaml.safe_load((run / "config.yaml").read_text())["label"]["classes"] == ["no", "yes"]


def test_the_new_head_validates_the_same_people_as_the_others(data: Path, four_configs: Path) -> None:
    configs = [load_config(TaskConfig, four_configs / f"{task}.yaml") for task in TASKS]
    people = [set(build_split(config, [data]).valid["person"]) for config in configs]
    assert people[0]
    assert people[1:] == people[:1] * 3


def test_four_heads_are_combined(
    four_runs: Path, four_configs: Path, faces: Path, call: Callable, tmp_path: Path
) -> None:
    out = tmp_path / "submission.csv"
    arguments = ["--runs", four_runs, "--data", faces / "eval", "--out", out, "--workers", 0]
    outcome = call(combine, "--config", four_configs / "joint.yaml", *arguments)
    assert outcome.code == 0, outcome.err
    with np.load(tmp_path / "probabilities.npz", allow_pickle=False) as saved:
        digits = [saved[task].argmax(axis=1) for task in TASKS]
        assert saved["glasses/classes"].tolist() == ["no", "yes"]
    assert read_codes(out, 36)["ans"].tolist() == encode(digits, (3, 2, 3, 2)).tolist()
