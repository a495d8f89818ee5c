"""The plots of the page as inline SVG, each with its alternative text."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data.runtime.html.plots import CELL, INK, SERIES, ink, legend, new_plot, svg
from ensemble.metrics.scores import JOINT, Score
from ensemble.report.analysis.calibration import Calibration
from ensemble.report.analysis.errors import NumberErrors
from ensemble.report.analysis.report import Report
from ensemble.report.load.runs import TrainingRun
from heads.objective.calibration import Floats, Reliability

GREY = SERIES[-1]


def confusion_plot(name: str, score: Score) -> Markup:
    """Confusion matrix of one task or of the joint code, with the percentage of each row."""
    confusion, classes = np.array(score["confusion"]), [each["name"] for each in score["classes"]]
    text = (
        f"Confusion matrix of {name}, {len(classes)} classes: "
        f"{np.trace(confusion)} of {score['count']} images on the diagonal"
    )
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    texts = {place: f"{count}\n{100 * shares[place]:.0f} %" for place, count in np.ndenumerate(confusion) if count}
    figure = heat_map(shares, texts, classes, classes)
    figure.axes[0].set(xlabel="predicted", ylabel="truth")
    return svg(figure, f"confusion {name}", text)


def heat_map(
    shades: npt.NDArray[np.float64], texts: Mapping[Any, str], rows: Sequence[str], columns: Sequence[str]
) -> Figure:
    """Plot `shades` [R, C], 0..1, as cells with the `texts` at their places; a cell of shade 0 is empty."""
    # Cells of many columns are narrower, so that 18 of them fit the page of a desktop.
    figure, axes = new_plot(2.1 + (0.62 if len(columns) <= 8 else 0.51) * len(columns), 1.6 + 0.5 * len(rows))
    colours = np.full((*shades.shape, 4), mpl.colors.to_rgba(CELL))
    colours[..., 3] = 0.75 * shades  # transparent where a cell is empty: the colour of the page is behind it
    axes.pcolormesh(colours, edgecolors="#8888", linewidth=0.5)
    for (row, column), text in texts.items():
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7, color=INK)
    ticks = np.arange(len(columns)) + 0.5
    axes.set_xticks(ticks, columns, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, parse_math=False)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def pairs_plot(report: Report) -> Markup:
    """Joint error rates by each value of `Evaluation.factors` alone, and by every pair of values."""
    factors, alone = report.evaluation.factors, "all images"
    groups = {}
    for group in (*report.groups[1], *report.groups[2]):
        *across, down = (f"{factor}: {value}" for factor, value in group.parts.items())
        groups[down, across[0] if across else alone] = group
    order = [alone, *(f"{factor}: {value}" for factor in factors for value in factors[factor].cat.categories)]
    rows, columns = ([name for name in order if name in used] for used in zip(*groups, strict=True))
    rates, texts = np.zeros((len(rows), len(columns))), {}
    for names, group in groups.items():
        place = rows.index(names[0]), columns.index(names[1])
        rates[place], texts[place] = group.errors[JOINT], f"{100 * group.errors[JOINT]:.0f} %\n{group.count}"
    figure = heat_map(rates / (rates.max() or 1), texts, rows, columns)
    worst = report.groups[2][0]
    text = f"most for {worst.name}, {100 * worst.errors[JOINT]:.0f} % of {worst.count:,} images"
    return svg(figure, "pairs", f"Wrong joint predictions by every pair of labels: {text}")


def number_plot(errors: NumberErrors) -> Markup:
    """Error rates by bins of a numeric label, for the joint code and each task, with the borders."""
    name, worst = errors.number.name, max(errors.bins, key=lambda group: group.errors[JOINT])
    figure, axes = new_plot(7, 3.2)
    for colour, part in zip(_colours(), errors.bins[0].errors, strict=False):
        shares = [100 * group.errors[part] for group in errors.bins]
        axes.plot(errors.centres, shares, marker="o", markersize=3, color=colour, label=part)
    for border in errors.number.borders:
        axes.axvline(border, color=GREY, linestyle="--", linewidth=1)
    axes.set_ylim(bottom=0)
    tasks = " and ".join(errors.number.task_borders)
    axes.set(xlabel=f"{name} (dashed: borders of the {tasks} classes)", ylabel="wrong predictions, %")
    legend(axes)
    borders = " and ".join(f"{border:g}" for border in errors.number.borders)
    text = (
        f"Wrong predictions by {name}, {len(errors.bins)} bins, borders at {borders}: most from "
        f"{worst.name}, {100 * worst.errors[JOINT]:.0f} % of the joint predictions"
    )
    return svg(figure, f"errors by {name}", text)


def reliability_plot(name: str, calibration: Calibration) -> Markup:
    """Accuracy of one head by confidence, before and after temperature scaling."""
    figure, axes = new_plot(3.6, 3.4)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    text = f"Reliability of {name}: expected calibration error {calibration.error:.3f}"
    _plot_bins(axes, calibration.before, SERIES[0], "as predicted")
    if calibration.after is not None:
        _plot_bins(axes, calibration.after, SERIES[1], "after scaling")
        text += f", {calibration.error_scaled:.3f} after temperature scaling"
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    legend(axes)
    return svg(figure, f"reliability {name}", text)


def _plot_bins(axes: mpl.axes.Axes, bins: Reliability, colour: str, label: str) -> None:
    axes.plot(bins.confidence, bins.accuracy, color=colour, linewidth=1, label=label)
    sizes = 6 + 120 * np.array(bins.count) / max(sum(bins.count), 1)  # areas by number of images
    axes.scatter(bins.confidence, bins.accuracy, s=sizes, color=colour)


def confidence_plot(curves: Mapping[str, tuple[Floats, Floats]]) -> Markup:
    """Error rate of the most confident predictions by their share, for each head and the joint code."""
    figure, axes = new_plot(7, 3.2)
    for colour, (name, (coverage, error)) in zip(_colours(), curves.items(), strict=False):
        axes.plot(100 * coverage, 100 * error, color=colour, label=name, linewidth=2 if name == JOINT else 1.2)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="most confident predictions, %", ylabel="wrong among them, %")
    legend(axes)
    text = "; ".join(
        f"{name} {100 * np.interp(0.5, coverage, error):.1f} % in the most confident half, "
        f"{100 * error[-1]:.1f} % of all"
        for name, (coverage, error) in curves.items()
    )
    return svg(figure, "confidence", f"Wrong predictions by confidence: {text}")


def history_plot(run: TrainingRun, reached: str) -> Markup:
    """Curves of a training run, whose best epoch has the metrics `reached`."""
    epochs, best = run.history["epoch"], run.best.get("epoch")
    text = f"Training of {run.name}, {len(epochs)} epochs; best epoch {best or epochs[-1]:g}: {reached}"
    return svg(history_figure(run.history, best), f"training {run.name}", text)


def history_figure(history: Mapping[str, Sequence[float]], best: float | None) -> Figure:
    """Plot training loss and validation metrics by epoch, with a line at the best epoch."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    names = [name for name in ("train_loss", "macro_f1", "mae") if name in history]
    for place, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1)
        ink(axes)
        known = np.isfinite(history[name])  # validation may skip epochs
        epochs, values = np.array(history["epoch"])[known], np.array(history[name])[known]
        axes.plot(epochs, values, color=SERIES[place], marker="o", markersize=3)
        if best is not None:
            axes.axvline(best, color=GREY, linestyle="--", linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_title(name.replace("_", " "), color=INK, fontsize=9)
    return figure


def _colours() -> Iterator[str]:
    """The text colour for the joint code, then the series, repeated."""
    yield INK
    yield from cycle(SERIES[:-1])
