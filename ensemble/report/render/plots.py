"""The report's plots, in the page's own colours."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data.runtime.html.plots import CELL, INK, SERIES, ink, legend, new_plot
from ensemble.metrics.calibration import Reliability
from ensemble.metrics.scores import JOINT
from ensemble.report.analysis.calibration import Calibration, Curve
from ensemble.report.analysis.errors import NumberErrors

GREY = SERIES[-1]


def confusion_figure(confusion: npt.NDArray[np.integer], class_names: Sequence[str]) -> Figure:
    """A plot of counts [C, C], truth down and prediction across, shaded by the share of each row.

    Every cell that holds something tells its count and its percentage of the row.
    """
    shares = row_shares(confusion)
    size = len(class_names)
    # Cells of many classes are narrower, so that 18 of them fit a desktop's page.
    figure, axes = new_plot(2.1 + (0.62 if size <= 8 else 0.51) * size, 1.6 + 0.5 * size)
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
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
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


def number_figure(errors: NumberErrors) -> Figure:
    """Share of wrong answers by bins of a number, for the joint answer and each task, with the borders."""
    figure, axes = new_plot(7, 3.2)
    low, high = np.array(errors.low), np.array(errors.high)
    middle = (low + high) / 2
    for colour, name in zip(_colours(), errors.bins[0].errors, strict=False):
        shares = [100 * group.errors[name] for group in errors.bins]
        axes.plot(middle, shares, marker="o", markersize=3, color=colour, label=name)
    for border in errors.number.borders:
        axes.axvline(border, color=GREY, linestyle="--", linewidth=1)
    axes.set_ylim(bottom=0)
    tasks = " and ".join(errors.number.cuts)
    axes.set_xlabel(f"{errors.number.name} (dashed: where {tasks} classes meet)")
    axes.set_ylabel("wrong answers, %")
    legend(axes)
    return figure


def reliability_figure(calibration: Calibration) -> Figure:
    """Accuracy by confidence, before and after temperature scaling; on the diagonal they are the same."""
    figure, axes = new_plot(3.6, 3.4)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    _reliability(axes, calibration.before, SERIES[0], "as it is")
    if calibration.after is not None:
        _reliability(axes, calibration.after, SERIES[1], "after scaling")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    legend(axes)
    return figure


def confidence_figure(curves: Mapping[str, Curve]) -> Figure:
    """Error among the surest answers by their share, for each head and the joint answer."""
    figure, axes = new_plot(7, 3.2)
    for colour, (name, curve) in zip(_colours(), curves.items(), strict=False):
        kept, error = (100 * np.array(each) for each in (curve.kept, curve.error))
        axes.plot(kept, error, color=colour, label=name, linewidth=2 if name == JOINT else 1.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("surest answers kept, %")
    axes.set_ylabel("wrong among them, %")
    legend(axes)
    return figure


def history_figure(history: Mapping[str, Sequence[float]], best: float | None) -> Figure:
    """Training loss and validation figures by epoch, each on its own axis; the kept epoch is marked."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    shown = [name for name in ("train_loss", "macro_f1", "mae") if name in history]
    for place, name in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), place + 1)
        ink(axes)
        there = np.isfinite(history[name])  # not every epoch need be validated
        epochs, values = np.array(history["epoch"])[there], np.array(history[name])[there]
        axes.plot(epochs, values, color=SERIES[place], marker="o", markersize=3)
        if best is not None:
            axes.axvline(best, color=GREY, linestyle="--", linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_title(name.replace("_", " "), color=INK, fontsize=9)
    return figure


def _reliability(axes: mpl.axes.Axes, bins: Reliability, colour: str, label: str) -> None:
    axes.plot(bins.confidence, bins.accuracy, color=colour, linewidth=1, label=label)
    # Areas say how many images stand behind a point.
    sizes = 6 + 120 * np.array(bins.count) / max(sum(bins.count), 1)
    axes.scatter(bins.confidence, bins.accuracy, s=sizes, color=colour)


def _colours() -> list[str]:
    """Colours by name: the joint answer in the page's ink, then the series, again where there are more."""
    return [INK, *(SERIES[place % (len(SERIES) - 1)] for place in range(40))]
