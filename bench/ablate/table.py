"""The CSV of collected figures, and the ablation table as Markdown."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import pandas as pd

from bench.ablate.plan import DEFAULT, Ablations
from bench.markdown import spread, table

HEADING = """# Ablations

Every figure is of people held out of training, never of an evaluation set. `python -m bench.ablate collect`
read them from the folders of the runs, `python -m bench.ablate table` wrote this page. Mean ± standard
deviation over seeds; one seed has no spread. The difference is that of the head's macro F1 and the default's
of the same seed, over the seeds that both have; mean absolute errors are in years. Rows of options that were removed
since (small images first, mixup, CutMix, other borders or years left out in training, pseudo-labels) were
measured at commit ce66e66 (0.1.0).
"""
KEY = ["plan", "head", "lever", "seed"]
COLUMNS = [*KEY, "macro_f1", "joint_macro_f1", "mae", "minutes", "gpu", "held_out_macro_f1"]
ALWAYS = ("lever", "what", "macro F1", "difference", "seeds")


def read_figures(file: Path) -> pd.DataFrame:
    """Read the figures collected so far, one row per run; empty if there is no file."""
    if not file.is_file():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(file, dtype={"plan": str, "head": str, "lever": str}).reindex(columns=COLUMNS)


def write_page(plans: Sequence[Ablations], figures: pd.DataFrame) -> str:
    """Write the whole page, one section per plan, from the figures of `read_figures`."""
    return HEADING + "".join(_section(plan, figures[figures["plan"] == plan.title]) for plan in plans)


def _section(plan: Ablations, figures: pd.DataFrame) -> str:
    lines = [f"\n## {plan.title}\n\n{fill(plan.note, 112)}\n"]
    for head in plan.heads:
        groups = {DEFAULT: ""} | {lever.name: lever.group for lever in plan.levers if lever.head == head}
        runs = figures[figures["head"] == head].set_index("seed")
        by_lever = {lever: found for lever in groups if len(found := runs[runs["lever"] == lever])}
        if not by_lever:
            continue
        default = by_lever.get(DEFAULT, runs[:0])
        rows = [{"lever": lever, "what": groups[lever], **_cells(found, default)} for lever, found in by_lever.items()]
        if DEFAULT in by_lever:
            rows[0]["difference"] = rows[0]["difference there"] = ""
        # Only heads that predict a number have an error; not all have a joint figure or runs on a GPU.
        filled = [name for name in rows[0] if name in ALWAYS or any(row[name] for row in rows)]
        lines.append(f"\n### {head}\n\n{table(filled, [[row[name] for name in filled] for row in rows])}\n")
    return "".join(lines)


def _cells(found: pd.DataFrame, default: pd.DataFrame) -> dict[str, str]:
    """A row's figures by column; empty where there is none."""
    difference, held_out = ((found[name] - default[name]).dropna() for name in ("macro_f1", "held_out_macro_f1"))
    on_gpu = found["gpu"].notna()
    return {
        "macro F1": spread(found["macro_f1"], 3),
        "difference": spread(difference, 3, "+"),
        "joint macro F1": spread(found["joint_macro_f1"], 3),
        "held-out macro F1": spread(found["held_out_macro_f1"], 3),
        "difference there": spread(held_out, 3, "+"),
        "mean absolute error": spread(found["mae"], 2),
        "minutes": spread(pd.Series([found["minutes"][~on_gpu].mean()]), 1),
        "minutes on a GPU": spread(pd.Series([found["minutes"][on_gpu].mean()]), 1),
        "seeds": str(len(found)),
    }
