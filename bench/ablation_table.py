"""The ablation table as Markdown, from the collected figures of runs (`bench.ablation_figures`)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.ablation_plan import DEFAULT, Ablations, Entry

HEADING = """# Ablations

Every figure is of people held out of training, never of an evaluation set. `python -m bench.ablate collect`
read them from the folders of the runs, `python -m bench.ablate table` wrote this page. Mean ± standard
deviation over seeds; one seed has no spread. The difference is the mean, over the seeds that both have, of
the head's macro F1 less the default's.
"""


def write_page(plans: Sequence[Ablations], figures: pd.DataFrame) -> str:
    """The whole page: one section a plan; `figures` as `bench.ablation_figures.read_figures` gives them."""
    return HEADING + "".join(_section(plan, figures[figures["plan"] == plan.title]) for plan in plans)


def _section(plan: Ablations, figures: pd.DataFrame) -> str:
    lines = [f"\n## {plan.title}\n\n{plan.note}\n"]
    for head in plan.heads:
        entries: list[Entry] = [*plan.levers, *plan.products]
        levers = {DEFAULT: ""} | {entry.name: entry.group for entry in entries if entry.head == head}
        runs = figures[figures["head"] == head].set_index("seed")
        rows = {lever: found for lever in levers if len(found := runs[runs["lever"] == lever])}
        if not rows:
            continue
        lines.append(
            f"\n### {head}\n\n| lever | what | macro F1 | difference | joint macro F1 | minutes | seeds |"
        )
        lines.append("\n| --- | --- | --- | --- | --- | --- | --- |\n")
        default = rows.get(DEFAULT, runs[:0])["macro_f1"]
        lines += [_row(lever, levers[lever], found, default) for lever, found in rows.items()]
    return "".join(lines)


def _row(lever: str, group: str, found: pd.DataFrame, default: pd.Series) -> str:
    less = (found["macro_f1"] - default).dropna()
    joint = found["joint_macro_f1"].dropna()
    cells = (
        lever,
        group,
        _spread(found["macro_f1"].tolist()),
        "" if lever == DEFAULT or less.empty else f"{less.mean():+.3f}",
        "" if joint.empty else _spread(joint.tolist()),
        f"{found['minutes'].mean():.1f}",
        str(len(found)),
    )
    return f"| {' | '.join(cells)} |\n"


def _spread(values: Sequence[float]) -> str:
    """Mean and, from two values on, the sample's standard deviation.

    >>> _spread([0.5]), _spread([0.5, 0.7])
    ('0.500', '0.600 ± 0.141')
    """
    mean: npt.NDArray[np.float64] | np.floating = np.mean(values)
    return f"{mean:.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
