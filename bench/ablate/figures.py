"""What the runs of a plan came to, as rows of one CSV that outlives the run folders."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.ablate.plan import Ablations, Run, config_file, default_head, list_products, list_runs
from bench.ablate.scores import EXPECTED, TRUTH, VALUE, default_scores, run_scores
from data.runtime.files import write_text
from ensemble.config import load_tasks
from ensemble.joint import encode, joint_probabilities
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.objective.metrics import macro_f1
from heads.run.checkpoint import find_description
from heads.run.folder import RunFolder

JOINT_YAML = Path("configs/joint.yaml")
KEY = ["plan", "head", "lever", "seed"]
COLUMNS = [*KEY, "macro_f1", "joint_macro_f1", "mae", "minutes", "gpu"]


@dataclass(frozen=True)
class Figures:
    """What one run came to.

    Attributes:
        head: macro F1 of its head.
        joint: macro F1 of the joint code; None: not all heads are there, or the head is none of the code's.
        minutes: of training and validating.
        mae: mean absolute error of a head that predicts a number, in the label's unit.
        gpu: the name of what it was trained on; None: a processor.
    """

    head: float
    joint: float | None
    minutes: float
    mae: float | None = None
    gpu: str | None = None


def figures_of(plan: Ablations, run: Run, runs: Path) -> Figures:
    """Figures of one finished run; the other heads are the plan's defaults with the same seed."""
    tasks = load_tasks(JOINT_YAML)
    table = default_scores(plan, run, runs)
    head = macro_f1(table[TRUTH].to_numpy(), _answers(table), _classes(table))
    mae = float((table[EXPECTED] - table[VALUE]).abs().mean()) if EXPECTED in table else None
    folders = run.folders(runs)
    minutes, gpu = _minutes(folders), _gpu(folders[0])
    if run.head not in tasks:
        is_joint = _classes(table) == prod(
            len(load_config(TaskConfig, config_file(task, None), []).label.classes) for task in tasks
        )
        return Figures(head, head if is_joint else None, minutes, mae, gpu)
    whole = _heads(plan, tasks, run.seed, runs) | {run.head: folders}
    joint = joint_macro_f1([whole[task] for task in tasks]) if whole.keys() == tasks.keys() else None
    return Figures(head, joint, minutes, mae, gpu)


def figures_of_product(plan: Ablations, run: Run, runs: Path) -> Figures | None:
    """Figures of a joint head times the tasks' heads, all of them defaults; None: one is missing."""
    wanted = [run.head, *load_tasks(JOINT_YAML)]
    heads = _heads(plan, wanted, run.seed, runs)
    if len(heads) < len(wanted):
        return None
    merged = product_macro_f1([heads[name] for name in wanted])
    return Figures(merged, merged, sum(map(_minutes, heads.values())))


def _heads(plan: Ablations, names: Iterable[str], seed: int, runs: Path) -> dict[str, list[RunFolder]]:
    """The run folders of the plan's default heads that are done, by name."""
    defaults = {name: default_head(plan, name, seed) for name in names if name in plan.heads}
    return {name: default.folders(runs) for name, default in defaults.items() if default.done(runs)}


def joint_macro_f1(heads: Sequence[Sequence[RunFolder]]) -> float:
    """Macro F1 over the joint classes on the images that all of the heads were validated on.

    Args:
        heads: the run folders of each task's folds, the most significant task first.
    """
    tables = _shared([run_scores(folders) for folders in heads])
    radices = [_classes(table) for table in tables]
    truth = encode([table[TRUTH].to_numpy() for table in tables], radices)
    return macro_f1(truth, encode([_answers(table) for table in tables], radices), prod(radices))


def product_macro_f1(heads: Sequence[Sequence[RunFolder]]) -> float:
    """Macro F1 of the class whose probability, times the product of the tasks' own, is the largest.

    Args:
        heads: the run folders of the joint head's folds, then of each task's, the most significant task first.
    """
    whole, *tables = _shared([run_scores(folders) for folders in heads])
    merged = _probabilities(whole) * joint_probabilities([_probabilities(table) for table in tables])
    return macro_f1(whole[TRUTH].to_numpy(), merged.argmax(axis=1), _classes(whole))


def _minutes(folders: Sequence[RunFolder]) -> float:
    """What a training took, the mean over folds."""
    told = [json.loads(folder.metrics.read_text(encoding="utf-8"))["minutes"] for folder in folders]
    return float(np.mean(told))


def _gpu(folder: RunFolder) -> str | None:
    """What its checkpoint says that it was trained on; None: no GPU, or the checkpoint is gone."""
    name = (find_description(folder.best) or {}).get("machine", {}).get("GPU")
    return None if name is None else str(name)


def _shared(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The rows of images that all tables have, in one order."""
    paths = sorted(set.intersection(*(set(table.index) for table in tables)))
    return [table.loc[paths] for table in tables]


def _probabilities(table: pd.DataFrame) -> npt.NDArray[np.float32]:
    return table[range(_classes(table))].to_numpy()


def _answers(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    answers: npt.NDArray[np.int64] = _probabilities(table).argmax(axis=1)
    return answers


def _classes(table: pd.DataFrame) -> int:
    return sum(isinstance(name, int) for name in table.columns)


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
        for run in list_runs(plan):
            if run.done(folder):
                found.append(_row(plan, run, figures_of(plan, run, folder)))
        for run in list_products(plan):
            if its := figures_of_product(plan, run, folder):
                found.append(_row(plan, run, its))
    table = pd.concat([read_figures(file).astype(object), pd.DataFrame(found, columns=COLUMNS, dtype=object)])
    table = table.drop_duplicates(KEY, keep="last").sort_values(KEY)
    write_text(file, table.to_csv(index=False))
    return len(found)


def _row(plan: Ablations, run: Run, figures: Figures) -> list[Any]:
    """The CSV's row of a run, in the order of `COLUMNS`."""
    key = [plan.title, run.head, run.lever, run.seed]
    told = (figures.head, figures.joint, figures.mae, figures.minutes)
    return [*key, *(None if value is None else round(value, 5) for value in told), figures.gpu]
