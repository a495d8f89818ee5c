"""The ablation table as Markdown, from run folders alone: validation.npz, metrics.json and history.csv."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import f1_score

from bench.ablate import DEFAULT, Ablations, Run, runs_of
from ensemble.config import tasks_of
from ensemble.joint import encode
from heads.run import run_folder

JOINT_YAML = Path("configs/joint.yaml")
HEADING = """# Ablations

Every figure is of people held out of training, never of an evaluation set; this page is written by
`python -m bench.ablate table` from the folders of the runs. Mean ± standard deviation over seeds; one seed has
no spread. The difference is the mean, over the seeds that both have, of the head's macro F1 less the default's.
"""


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


def write_page(plans: Sequence[Ablations], runs: Sequence[Path]) -> str:
    """The whole page: one section a plan."""
    return HEADING + "".join(_section(plan, folder) for plan, folder in zip(plans, runs, strict=True))


def _section(plan: Ablations, runs: Path) -> str:
    done: dict[tuple[str, str], dict[int, Figures]] = {}
    for run in runs_of(plan):
        if run.done(runs):
            done.setdefault((run.head, run.lever), {})[run.seed] = figures_of(run, runs)
    groups = {lever.name: lever.group for lever in plan.levers}
    lines = [f"\n## {plan.title}\n\n{plan.note}\n"]
    for head in plan.heads:
        rows = [(lever, seeds) for (its, lever), seeds in done.items() if its == head]
        if not rows:
            continue
        lines.append(
            f"\n### {head}\n\n| lever | what | macro F1 | difference | joint macro F1 | minutes | seeds |"
        )
        lines.append("\n| --- | --- | --- | --- | --- | --- | --- |\n")
        lines += [_row(lever, groups.get(lever, ""), seeds, done[head, DEFAULT]) for lever, seeds in rows]
    return "".join(lines)


def _row(lever: str, group: str, seeds: Mapping[int, Figures], default: Mapping[int, Figures]) -> str:
    both = [seeds[seed].head - default[seed].head for seed in seeds if seed in default]
    difference = "" if lever == DEFAULT or not both else f"{np.mean(both):+.3f}"
    joint = [each.joint for each in seeds.values() if each.joint is not None]
    cells = (
        lever,
        group,
        _spread([each.head for each in seeds.values()]),
        difference,
        _spread(joint) if joint else "",
        f"{np.mean([each.minutes for each in seeds.values()]):.1f}",
        str(len(seeds)),
    )
    return f"| {' | '.join(cells)} |\n"


def _spread(values: Sequence[float]) -> str:
    """Mean and, from two values on, the sample's standard deviation.

    >>> _spread([0.5]), _spread([0.5, 0.7])
    ('0.500', '0.600 ± 0.141')
    """
    mean: npt.NDArray[np.float64] | np.floating = np.mean(values)
    return f"{mean:.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
