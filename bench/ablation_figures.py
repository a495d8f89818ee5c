"""What the runs of a plan came to, as rows of one CSV that outlives the run folders."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.ablation_plan import DEFAULT, Ablations, Run, config_file, products_of, runs_of
from data.files import write_text
from ensemble.config import tasks_of
from ensemble.joint import encode, joint_probabilities
from heads.config import TaskConfig
from heads.macro_f1 import macro_f1
from heads.run import run_folder
from heads.schema import load

JOINT_YAML = Path("configs/joint.yaml")
EXPECTED, VALUE = "expected", "value"  # of validation.npz
KEY = ["plan", "head", "lever", "seed"]
COLUMNS = [*KEY, "macro_f1", "joint_macro_f1", "mae", "minutes"]


@dataclass(frozen=True)
class Figures:
    """What one run came to.

    Attributes:
        head: macro F1 of its head.
        joint: macro F1 of the joint code; None: not all heads are there, or the head is none of the code's.
        mae: mean absolute error of a head that predicts a number, in the label's unit.
        minutes: of training and validating.
    """

    head: float
    joint: float | None
    minutes: float
    mae: float | None = None


def figures_of(run: Run, runs: Path) -> Figures:
    """Figures of one finished run; the other heads are the plan's defaults with the same seed."""
    folder = run_folder(run.folder(runs), run.head)
    metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
    tasks = tasks_of(JOINT_YAML)
    others = replace(run, lever=DEFAULT).folder(runs)
    judged = _as_the_default(folder.validation, run_folder(others, run.head).validation)
    head = macro_f1(judged["truth"].to_numpy(), _answers(judged), _classes(judged))
    mae = float((judged[EXPECTED] - judged[VALUE]).abs().mean()) if EXPECTED in judged else None
    if run.head not in tasks:
        is_joint = _classes(judged) == prod(
            len(load(TaskConfig, config_file(task, None), []).label.classes) for task in tasks
        )
        return Figures(head, head if is_joint else None, metrics["minutes"], mae)
    paths = {
        task: folder.validation if task == run.head else run_folder(others, task).validation for task in tasks
    }
    joint = joint_macro_f1(paths) if all(path.is_file() for path in paths.values()) else None
    return Figures(head, joint, metrics["minutes"], mae)


def figures_of_product(head: str, others: Path) -> Figures | None:
    """Figures of a joint head times the tasks' heads, all in the folder `others`; None: one is missing."""
    folders = [run_folder(others, name) for name in (head, *tasks_of(JOINT_YAML))]
    if not all(folder.metrics.is_file() for folder in folders):
        return None
    merged = product_macro_f1([folder.validation for folder in folders])
    told = [json.loads(folder.metrics.read_text(encoding="utf-8")) for folder in folders]
    return Figures(merged, merged, sum(metrics["minutes"] for metrics in told))


def joint_macro_f1(validation: Mapping[str, Path]) -> float:
    """Macro F1 over the joint classes on the photographs that all of the heads' validation.npz hold.

    Args:
        validation: each task's file, the most significant task first.
    """
    tables = _shared([_judged(path) for path in validation.values()])
    radices = [_classes(table) for table in tables]
    truth = encode([table["truth"].to_numpy() for table in tables], radices)
    return macro_f1(truth, encode([_answers(table) for table in tables], radices), prod(radices))


def product_macro_f1(validation: Sequence[Path]) -> float:
    """Macro F1 of the class whose probability, times the product of the tasks' own, is the largest.

    Args:
        validation: the joint head's file, then each task's, the most significant task first.
    """
    whole, *tables = _shared([_judged(path) for path in validation])
    merged = _probabilities(whole) * joint_probabilities([_probabilities(table) for table in tables])
    return macro_f1(whole["truth"].to_numpy(), merged.argmax(axis=1), _classes(whole))


def _judged(path: Path) -> pd.DataFrame:
    """What a validation.npz holds, by photograph: `truth`, the probabilities by class index, numbers if any."""
    with np.load(path) as arrays:
        table = pd.DataFrame(arrays["probabilities"], index=arrays["path"])
        for name in ("truth", EXPECTED, VALUE):
            if name in arrays:
                table[name] = arrays[name]
    return table


def _as_the_default(validation: Path, default: Path) -> pd.DataFrame:
    """`_judged` on the photographs that judge the default: a lever may bring data of its own."""
    judged = _judged(validation)
    return judged[judged.index.isin(_judged(default).index)] if default.is_file() else judged


def _shared(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The rows of photographs that all tables have, in one order."""
    paths = sorted(set.intersection(*(set(table.index) for table in tables)))
    return [table.loc[paths] for table in tables]


def _probabilities(judged: pd.DataFrame) -> npt.NDArray[np.float32]:
    return judged[range(_classes(judged))].to_numpy()


def _answers(judged: pd.DataFrame) -> npt.NDArray[np.int64]:
    answers: npt.NDArray[np.int64] = _probabilities(judged).argmax(axis=1)
    return answers


def _classes(judged: pd.DataFrame) -> int:
    return sum(isinstance(name, int) for name in judged.columns)


def read_figures(file: Path) -> pd.DataFrame:
    """The rows collected so far, one a run; none where there is no file yet."""
    if not file.is_file():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(file, dtype={"plan": str, "head": str, "lever": str})


def collect(plans: Sequence[Ablations], runs: Sequence[Path], file: Path) -> int:
    """Write the figures of all finished runs into the CSV `file`, over older ones; returns their number.

    Rows of runs whose folders are gone stay: they were measured.
    """
    found = []
    for plan, folder in zip(plans, runs, strict=True):
        for run in runs_of(plan):
            if run.done(folder):
                found.append(_row(plan, run, figures_of(run, folder)))
        for run in products_of(plan):
            if its := figures_of_product(run.head, replace(run, lever=DEFAULT).folder(folder)):
                found.append(_row(plan, run, its))
    table = pd.concat([read_figures(file).astype(object), pd.DataFrame(found, columns=COLUMNS, dtype=object)])
    table = table.drop_duplicates(KEY, keep="last").sort_values(KEY)
    write_text(file, table.to_csv(index=False))
    return len(found)


def _row(plan: Ablations, run: Run, figures: Figures) -> list[Any]:
    """The CSV's row of a run, in the order of `COLUMNS`."""
    key = [plan.title, run.head, run.lever, run.seed]
    told = (figures.head, figures.joint, figures.mae, figures.minutes)
    return [*key, *(None if value is None else round(value, 5) for value in told)]
