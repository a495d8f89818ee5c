"""A submission of 84 images of 12 people, with everything that a report can use."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.files.predictions import TaskOutput
from ensemble.joint import decode
from ensemble.report.analysis.report import Report, analyse
from ensemble.report.load.evaluation import Evaluation, NumericLabel
from ensemble.report.load.load_evaluation import load_evaluation
from ensemble.report.load.runs import TrainingRun
from heads.config.task import Label

TASKS = {"mask": ["wear", "<b>$x$ & y</b>"], "age": ["under 30", "30 to 59", "60 and over"]}
LABELS = {
    "mask": Label(column="mask", classes=TASKS["mask"]),
    "age": Label(column="age", classes=TASKS["age"], borders=[30.0, 60.0]),
}


@dataclass(frozen=True)
class World:
    """The files, and their contents as arrays in the order of the answers."""

    folder: Path
    table: pd.DataFrame  # ImageID, ans, given, other, person, age
    merged: dict[str, np.ndarray]
    plain: dict[str, np.ndarray]

    def load(self, submission: Path | None = None, **options: Any) -> tuple[Evaluation, list, list[str]]:
        return load_evaluation(LABELS, submission or self.folder / "a.csv", self.folder / "answers.csv", **options)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    generator = np.random.default_rng(3)
    ages = np.repeat(generator.integers(18, 75, 12), 7)
    digits = {"mask": generator.integers(0, 2, 84), "age": np.searchsorted([30, 60], ages, side="right")}
    merged, plain = {}, {}
    for task, names in TASKS.items():
        logits = generator.normal(size=(2, 84, len(names))) + 1.5 * np.eye(len(names))[digits[task]]
        both = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        merged[task], plain[task] = both.astype(np.float32)
    table = pd.DataFrame(
        {
            "ImageID": [f"{number:03d}.jpg" for number in generator.permutation(84)],
            "ans": digits["mask"] * 3 + digits["age"],
            "given": merged["mask"].argmax(1) * 3 + merged["age"].argmax(1),
            "other": plain["mask"].argmax(1) * 3 + plain["age"].argmax(1),
            "person": np.repeat([f"p{number}" for number in range(12)], 7),
            "age": ages,
        }
    )
    folder = tmp_path_factory.mktemp("world")
    table[["ImageID", "ans", "person", "age"]].to_csv(folder / "answers.csv", index=False)
    shuffled = table.sample(frac=1, random_state=0)
    for name, column in (("a.csv", "given"), ("b.csv", "other")):
        shuffled[["ImageID", column]].rename(columns={column: "ans"}).to_csv(folder / name, index=False)
    order = shuffled.index.to_numpy()
    arrays = {"ImageID": shuffled["ImageID"].to_numpy().astype(str)}
    for task, names in TASKS.items():
        arrays |= {task: merged[task][order], f"{task}/identity": plain[task][order]}
        arrays[f"{task}/classes"] = np.array(names)
    np.savez(folder / "probabilities.npz", **arrays)
    return World(folder, table, merged, plain)


@pytest.fixture(scope="session")
def report(world: World) -> Report:
    evaluation, _, notes = world.load(compare=[world.folder / "b.csv"])
    history = {"epoch": [1.0, 2.0], "train_loss": [1.0, 0.5], "macro_f1": [0.4, 0.6]}
    best = {"macro_f1": 0.6, "epoch": 2.0}
    run = TrainingRun("age", history, "task: age\n", 1.5, {"torch": "2.0"}, {"system": "Linux"}, best)
    return analyse(replace(evaluation, temperatures={"mask": 1.3, "age": 0.8}), [run], notes)


@pytest.fixture
def small() -> Evaluation:
    """Four images, few enough to count every figure by hand."""
    truth, predicted = np.array([0, 1, 5, 4]), np.array([0, 3, 2, 4])
    mask, age = decode(predicted, (2, 3))
    two, three = np.eye(2, dtype=np.float32), np.eye(3, dtype=np.float32)
    outputs = {
        "mask": TaskOutput(two[mask] * 0.8 + 0.1, two[[0, 0, 1, 1]]),
        "age": TaskOutput(three[age] * 0.7 + 0.1, three[[0, 0, 2, 0]]),
    }
    number = NumericLabel("age", {"age": [30, 60]}, np.array([29, 30, 71, np.nan]))
    people = np.array(["x", "x", "y", "\nd"])
    return Evaluation(TASKS, list("abcd"), truth, {"s": predicted}, people, [number], outputs)
