"""A submission of 84 images of 12 people, with all that can be known of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.joint import decode
from ensemble.report.analysis.report import Report, analyse
from ensemble.report.load.evaluation import Evaluation, HeadOutput, Number
from ensemble.report.load.load_evaluation import EvaluationFiles, load_evaluation
from ensemble.report.load.runs import TrainingRun
from heads.config.task import Label

TASKS = {"mask": ["wear", "<b>$x$ & y</b>"], "age": ["under 30", "30 to 59", "60 and over"]}
LABELS = {
    "mask": Label(column="mask", classes=TASKS["mask"]),
    "age": Label(column="age", classes=TASKS["age"], borders=[30.0, 60.0]),
}
RADICES = (2, 3)


@dataclass(frozen=True)
class World:
    """The files, and the same as arrays, read by pandas and nothing of ours."""

    folder: Path
    table: pd.DataFrame  # ImageID, ans, given, other, person, age
    heads: dict[str, np.ndarray]
    plain: dict[str, np.ndarray]

    @property
    def sources(self) -> EvaluationFiles:
        return EvaluationFiles(
            self.folder / "a.csv", self.folder / "answers.csv", compare=[self.folder / "b.csv"]
        )

    def evaluation(self) -> Evaluation:
        return load_evaluation(self.sources, LABELS)[0]


def _probabilities(generator: np.random.Generator, truth: np.ndarray, classes: int) -> np.ndarray:
    logits = generator.normal(size=(len(truth), classes)) + 1.5 * np.eye(classes)[truth]
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    generator = np.random.default_rng(3)
    ages = np.repeat(generator.integers(18, 75, 12), 7)
    digits = {"mask": generator.integers(0, 2, 84), "age": np.searchsorted([30, 60], ages, side="right")}
    heads = {task: _probabilities(generator, digits[task], len(names)) for task, names in TASKS.items()}
    plain = {task: _probabilities(generator, digits[task], len(names)) for task, names in TASKS.items()}
    table = pd.DataFrame(
        {
            "ImageID": [f"{number:03d}.jpg" for number in generator.permutation(84)],
            "ans": digits["mask"] * 3 + digits["age"],
            "given": heads["mask"].argmax(1) * 3 + heads["age"].argmax(1),
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
        arrays |= {task: heads[task][order], f"{task}/identity": plain[task][order]}
        arrays[f"{task}/classes"] = np.array(names)
    np.savez(folder / "probabilities.npz", **arrays)
    return World(folder, table, heads, plain)


@pytest.fixture(scope="session")
def findings(world: World) -> Report:
    evaluation, _, notes = load_evaluation(world.sources, LABELS)
    run = TrainingRun(
        "age",
        {"epoch": [1.0, 2.0], "train_loss": [1.0, 0.5], "macro_f1": [0.4, 0.6]},
        "task: age\n",
        1.5,
        {"torch": "2.0"},
        {"system": "Linux"},
        {"macro_f1": 0.6, "epoch": 2.0},
    )
    scaled = {"mask": 1.3, "age": 0.8}
    known = Evaluation(
        evaluation.tasks,
        evaluation.ids,
        evaluation.truth,
        evaluation.submissions,
        evaluation.people,
        evaluation.numbers,
        evaluation.heads,
        scaled,
    )
    return analyse(known, [run], notes)


@pytest.fixture
def small() -> Evaluation:
    """Four images, whose every figure can be counted by hand."""
    truth = np.array([0, 1, 5, 4])
    predicted = np.array([0, 3, 2, 4])
    mask, age = decode(predicted, RADICES)
    heads = {
        "mask": HeadOutput(
            np.eye(2, dtype=np.float32)[mask] * 0.8 + 0.1, np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
        ),
        "age": HeadOutput(
            np.eye(3, dtype=np.float32)[age] * 0.7 + 0.1, np.eye(3, dtype=np.float32)[[0, 0, 2, 0]]
        ),
    }
    number = Number("age", {"age": [30, 60]}, np.array([29, 30, 71, np.nan]))
    people = np.array(["x", "x", "y", "\nd"])
    return Evaluation(TASKS, list("abcd"), truth, {"s": predicted}, people, [number], heads)
