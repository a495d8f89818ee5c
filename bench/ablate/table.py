"""The ablation table as Markdown, from the collected figures of runs (`bench.ablate.figures`)."""

from collections.abc import Sequence
from textwrap import fill

import pandas as pd

from bench.ablate.plan import DEFAULT, Ablations, Entry

HEADING = """# Ablations

Every figure is of people held out of training, never of an evaluation set. `python -m bench.ablate collect`
read them from the folders of the runs, `python -m bench.ablate table` wrote this page. Mean ± standard
deviation over seeds; one seed has no spread. The difference is the mean, over the seeds that both have, of
the head's macro F1 less the default's; mean absolute errors are in years.
"""
ALWAYS = ("lever", "what", "macro F1", "difference", "seeds")


def write_page(plans: Sequence[Ablations], figures: pd.DataFrame) -> str:
    """The whole page: one section a plan; `figures` as `bench.ablate.figures.read_figures` gives them."""
    return HEADING + "".join(_section(plan, figures[figures["plan"] == plan.title]) for plan in plans)


def _section(plan: Ablations, figures: pd.DataFrame) -> str:
    lines = [f"\n## {plan.title}\n\n{fill(plan.note, 112)}\n"]
    for head in plan.heads:
        entries: list[Entry] = [*plan.levers, *plan.products]
        levers = {DEFAULT: ""} | {entry.name: entry.group for entry in entries if entry.head == head}
        runs = figures[figures["head"] == head].set_index("seed")
        rows = {lever: found for lever in levers if len(found := runs[runs["lever"] == lever])}
        if not rows:
            continue
        default = rows.get(DEFAULT, runs[:0])["macro_f1"]
        cells = [_cells(lever, levers[lever], found, default) for lever, found in rows.items()]
        # A head without numbers has no error, one outside the joint code no joint figure, few runs a GPU.
        filled = [name for name in cells[0] if name in ALWAYS or any(row[name] for row in cells)]
        lines.append(f"\n### {head}\n\n| {' | '.join(filled)} |\n|{' --- |' * len(filled)}\n")
        lines += [f"| {' | '.join(row[name] for name in filled)} |\n" for row in cells]
    return "".join(lines)


def _cells(lever: str, group: str, found: pd.DataFrame, default: pd.Series) -> dict[str, str]:
    """A row's cells by the name of their column; one that has no figure is empty."""
    less = (found["macro_f1"] - default).dropna()
    return {
        "lever": lever,
        "what": group,
        "macro F1": spread(found["macro_f1"], 3),
        "difference": "" if lever == DEFAULT else spread(pd.Series([less.mean()]), 3, "+"),
        "joint macro F1": spread(found["joint_macro_f1"], 3),
        "mean absolute error": spread(found["mae"], 2),
        "minutes": _mean(found["minutes"][found["gpu"].isna()]),
        "minutes on a GPU": _mean(found["minutes"][found["gpu"].notna()]),
        "seeds": str(len(found)),
    }


def _mean(values: pd.Series) -> str:
    """One digit of the mean; nothing where no value is there."""
    return "" if values.empty else f"{values.mean():.1f}"


def spread(values: pd.Series, digits: int, sign: str = "") -> str:
    """Mean and, from two values on, the sample's standard deviation; nothing where no value is there.

    Args:
        sign: "+" for a difference, whose sign is told in any case.

    >>> spread(pd.Series([0.5]), 3), spread(pd.Series([0.5, None, 0.7]), 3)
    ('0.500', '0.600 ± 0.141')
    >>> spread(pd.Series([-0.0001]), 3, "+")
    '+0.000'
    """
    there = values.dropna()
    if there.empty:
        return ""
    # z: no minus before what rounds to nothing.
    return f"{there.mean():{sign}z.{digits}f}" + (f" ± {there.std():.{digits}f}" if len(there) > 1 else "")
