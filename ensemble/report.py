"""The report: one HTML file that holds its figures and plots itself and asks for nothing from elsewhere."""

import re
import warnings
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from data.files import write_text
from ensemble.metrics import JOINT, Score

TEMPLATES = Path(__file__).parent / "templates"
CELL = "#3b7dd8"  # a mid blue: black text reads on it by day, white text by night
INK = "#010203"  # stands for the page's text colour until the plot is in the page


def write_report(
    path: Path,
    metrics: Mapping[str, Score],
    *,
    title: str = "Evaluation",
    sources: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write `metrics`, as `ensemble.metrics.score_joint` gives them, to `path` as one self-contained page.

    Tasks, in their order, and names of classes are those of `metrics`. `sources` tells what was scored
    (a label and a text each); `notes` are sentences for the top of the page. All text is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tasks = {name: figures for name, figures in metrics.items() if name != JOINT}
    page = environment.get_template("report.html").render(
        title=title,
        sources=sources or {},
        notes=notes,
        joint=metrics[JOINT],
        tasks=tasks,
        sections=[_section(name, figures) for name, figures in {JOINT: metrics[JOINT], **tasks}.items()],
        calibrated=any("expected_calibration_error" in figures for figures in tasks.values()),
    )
    write_text(path, page)


def confusion_figure(confusion: npt.NDArray[np.integer], class_names: Sequence[str]) -> Figure:
    """A plot of counts [C, C], truth down and prediction across, shaded by the share of each row.

    Every cell that holds something tells its count and its percentage of the row.
    """
    shares = row_shares(confusion)
    size = len(class_names)
    figure = Figure(figsize=(2.2 + 0.62 * size, 1.6 + 0.5 * size), layout="constrained")
    axes = figure.add_subplot()
    shades = np.empty((size, size, 4))
    shades[...] = mpl.colors.to_rgba(CELL)
    shades[..., 3] = 0.75 * shares  # transparent where nothing is: the page's own colour shows through
    axes.pcolormesh(shades, edgecolors="#8888", linewidth=0.5)
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            text = f"{count}\n{100 * shares[row, column]:.0f} %"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7, color=INK)
    ticks = np.arange(size) + 0.5
    axes.set_xticks(ticks, class_names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(ticks, class_names, parse_math=False)
    axes.invert_yaxis()
    axes.tick_params(length=0, labelsize=8, colors=INK)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("truth", color=INK)
    axes.spines[:].set_visible(False)
    return figure


def row_shares(confusion: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Each cell's share [C, C] of its row, 0..1; a row without samples is all 0.

    >>> row_shares(np.array([[3, 1], [0, 0]])).tolist()
    [[0.75, 0.25], [0.0, 0.0]]
    """
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.zeros(confusion.shape)
    np.divide(confusion, totals, out=shares, where=totals > 0)
    return shares


def _section(name: str, figures: Score) -> dict[str, Any]:
    """What the template shows of one task or of the joint code; the costliest class first."""
    class_names = [each["name"] for each in figures["classes"]]
    plot = confusion_figure(np.array(figures["confusion"]), class_names)
    label = (
        f"Confusion matrix of {name}, {len(class_names)} classes: "
        f"{np.trace(figures['confusion'])} of {figures['count']} photographs on the diagonal"
    )
    return {
        "name": name,
        "is_joint": name == JOINT,
        "figures": figures,
        "classes": sorted(figures["classes"], key=lambda each: -each["joint_cost"]),
        "plot": _svg(plot, name, label),
    }


def _svg(figure: Figure, name: str, label: str) -> Markup:
    """`figure` as an inline SVG that takes the page's text colour and font; `label` its alt text."""
    drawn = StringIO()
    # The salt keeps the ids the same from run to run and apart between the plots of one page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser has the fonts; what matplotlib's own lacks only makes its measure of the text coarser.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # names such as axes_1 recur in every plot of the page
    text = text.replace(INK, "currentColor")
    return Markup(text.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(label), 1))
