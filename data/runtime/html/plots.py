"""matplotlib figures as inline SVG in the page's own colours, by day and by night."""

import re
import warnings
from io import StringIO

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that stand for the page's own until the plot is in the page: page.css gives them by day and by night.
INK = "#010203"
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
CELL = "#3b7dd8"  # a mid blue: black text reads on it by day, white text by night


def new_plot(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one plot, in inches (96 pixels each on the page), its axes in the page's ink."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    ink(axes)
    return figure, axes


def ink(axes: Axes) -> None:
    """Give the axes the page's text colour and keep only the two that are read."""
    axes.tick_params(labelsize=8, colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)
    axes.title.set_fontsize(9)
    axes.spines[:].set_color(INK)
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: Axes) -> None:
    """A legend without a frame, in the page's ink."""
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def svg(figure: Figure, name: str, alternative: str) -> Markup:
    """`figure` as an inline SVG with role=img.

    Args:
        figure: drawn in `INK`, `SERIES` and `CELL`, or in colours that read on white and on black.
        name: of the plot, one of a kind in its page: it keeps the ids of two plots apart.
        alternative: what the plot says, for who cannot see it.
    """
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
    for place, colour in enumerate(SERIES, start=1):
        text = text.replace(colour, f"var(--series-{place})")
    return Markup(text.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(alternative), 1))
