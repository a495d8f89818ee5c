"""The seam: a fourth task is one new YAML and one new column; no Python changes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

import combine
import train_task
from data.annotations.challenge import read_people
from data.images.decode import decode
from ensemble.files.submission import read_codes
from ensemble.joint import encode
from heads.build import build_split
from heads.config.loader import load_config
from heads.config.task import TaskConfig

COLUMNS = ["path", "person", "age", "gender", "mask", "glasses"]


@pytest.fixture(scope="module")
def with_glasses(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn people in one labels.csv; every second person wears dark glasses."""
    folder = tmp_path_factory.mktemp("with_glasses")
    (folder / "images").mkdir()
    rows, _ = read_people(faces / "train" / "images")
    people = sorted({row["person"] for row in rows})
    for row in rows:
        worn = people.index(row["person"]) % 2 == 0
        image = Image.fromarray(decode(Path(row["path"])))
        if worn:
            width, height = image.size
            box = (0.2 * width, 0.38 * height, 0.8 * width, 0.5 * height)
            ImageDraw.Draw(image).rectangle(box, fill="black")
        row["path"] = f"{row['person']}_{row['shot']}.png"
        row["glasses"] = "yes" if worn else "no"
        image.save(folder / "images" / row["path"])
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "age": int(row["age"])} for row in rows)
    return folder


@pytest.fixture(scope="module")
def four_tasks(configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small configs with one new YAML and a joint.yaml that names it."""
    folder = tmp_path_factory.mktemp("four_tasks")
    for task in ("mask", "gender", "age"):
        (folder / f"{task}.yaml").write_text((configs / f"{task}.yaml").read_text())
    others = load_config(TaskConfig, configs / "mask.yaml").model_dump(exclude={"task", "label"})
    new = "task: glasses\nlabel: {column: glasses, classes: [no, yes]}\n"
    (folder / "glasses.yaml").write_text(new + yaml.safe_dump(others, sort_keys=False))
    (folder / "joint.yaml").write_text("tasks: [mask, gender, age, glasses]\n")
    return folder


@pytest.fixture(scope="module")
def four_runs(with_glasses: Path, four_tasks: Path, runs: Path, call: Callable, tmp_path_factory) -> Path:
    """The three heads' runs and a new one."""
    folder = tmp_path_factory.mktemp("four_runs")
    for task in ("mask", "gender", "age"):
        (folder / task).symlink_to(runs / task)
    arguments = ["--config", four_tasks / "glasses.yaml", "--data", with_glasses, "--runs", folder]
    outcome = call(train_task, "--task", "glasses", *arguments)
    assert outcome.code == 0, outcome.err
    return folder


def test_the_new_task_trains(four_runs: Path) -> None:
    metrics = json.loads((four_runs / "glasses" / "metrics.json").read_text())
    assert list(metrics["classes"]) == ["no", "yes"]
    assert 0 < metrics["macro_f1"] <= 1


def test_no_and_yes_stay_names_in_the_config_that_is_kept(four_runs: Path) -> None:
    kept = four_runs / "glasses" / "config.yaml"
    assert load_config(TaskConfig, kept).label.classes == ["no", "yes"]
    assert yaml.safe_load(kept.read_text())["label"]["classes"] == ["no", "yes"]


def test_the_new_head_validates_the_same_people_as_the_others(with_glasses: Path, four_tasks: Path) -> None:
    people = []
    for task in ("mask", "gender", "age", "glasses"):
        config = load_config(TaskConfig, four_tasks / f"{task}.yaml")
        people.append(set(build_split(config, [with_glasses]).valid["person"]))
    assert people[0]
    assert people[1:] == people[:1] * 3


def test_four_heads_are_combined(
    four_runs: Path, four_tasks: Path, faces: Path, call: Callable, tmp_path: Path
) -> None:
    out = tmp_path / "submission.csv"
    arguments = ["--runs", four_runs, "--data", faces / "eval", "--out", out, "--workers", 0]
    outcome = call(combine, "--config", four_tasks / "joint.yaml", *arguments)
    assert outcome.code == 0, outcome.err
    with np.load(tmp_path / "probabilities.npz", allow_pickle=False) as saved:
        digits = [saved[task].argmax(axis=1) for task in ("mask", "gender", "age", "glasses")]
        assert saved["glasses/classes"].tolist() == ["no", "yes"]
    expected = encode(digits, (3, 2, 3, 2))
    assert read_codes(out, 36)["ans"].tolist() == expected.tolist()
