"""What the runs of a plan came to, as rows of one CSV that outlives the run folders."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from bench.ablation_plan import DEFAULT, Ablations, Run, runs_of
from data.files import write_text
from ensemble.config import tasks_of
from ensemble.joint import encode
from heads.run import run_folder

JOINT_YAML = Path("configs/joint.yaml")
KEY = ["plan", "head", "lever", "seed"]
COLUMNS = [*KEY, "macro_f1", "joint_macro_f1", "minutes"]


@dataclass(frozen=True)
class Figures:
    """What one run came to: macro F1 of its head and of the joint code (None: not all heads there), minutes."""

    head: float
    joint: float | None
    minutes: float


def figures_of(run: Run, runs: Path) -> Figures:
    """Figures of one finished run; the other heads are the plan's defaults with the same seed."""
    folder = run_folder(run.folder(runs), run.head)
    metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
    tasks = tasks_of(JOINT_YAML)
    others = replace(run, lever=DEFAULT).folder(runs)
    head = head_macro_f1(folder.validation, run_folder(others, run.head).validation)
    if run.head not in tasks:  # a head over the joint classes themselves
        return Figures(head, head, metrics["minutes"])
    paths = {
        task: folder.validation if task == run.head else run_folder(others, task).validation for task in tasks
    }
    joint = joint_macro_f1(paths) if all(path.is_file() for path in paths.values()) else None
    return Figures(head, joint, metrics["minutes"])


def head_macro_f1(validation: Path, default: Path) -> float:
    """Macro F1 of a head on the photographs that judge the default: a lever may bring data of its own."""
    with np.load(validation) as arrays:
        classes = range(len(arrays["classes"]))
    answers = _answers(validation)
    answers = answers[answers.index.isin(_answers(default).index)] if default.is_file() else answers
    return float(
        f1_score(answers["truth"], answers["answer"], labels=classes, average="macro", zero_division=0)
    )


def joint_macro_f1(validation: Mapping[str, Path]) -> float:
    """Macro F1 over the joint classes on the photographs that all of the heads' validation.npz hold.

    Args:
        validation: each task's file, the most significant task first.
    """
    tables = {task: _answers(path) for task, path in validation.items()}
    shared = sorted(set.intersection(*(set(each.index) for each in tables.values())))
    radices = [len(tasks) for tasks in tasks_of(JOINT_YAML).values()]
    truth, answers = (
        encode([each.loc[shared, column].to_numpy() for each in tables.values()], radices)
        for column in ("truth", "answer")
    )
    classes = range(int(np.prod(radices)))
    return float(f1_score(truth, answers, labels=classes, average="macro", zero_division=0))


def _answers(path: Path) -> pd.DataFrame:
    with np.load(path) as arrays:
        answer = arrays["probabilities"].argmax(axis=1)
        return pd.DataFrame({"truth": arrays["truth"], "answer": answer}, index=arrays["path"])


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
                its = figures_of(run, folder)
                key = [plan.title, run.head, run.lever, run.seed]
                found.append([*key, round(its.head, 5), its.joint, its.minutes])
    table = pd.concat([read_figures(file).astype(object), pd.DataFrame(found, columns=COLUMNS, dtype=object)])
    table = table.drop_duplicates(KEY, keep="last").sort_values(KEY)
    write_text(file, table.to_csv(index=False, float_format="%.5f"))
    return len(found)
