"""matplotlib figures as inline SVG in the page's own colours, light and dark."""

import re
import warnings
from io import StringIO

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholders of the page's own colours, which page.css defines for light and dark.
INK = "#010203"
SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
CELL = "#3b7dd8"  # a mid blue, on which black text (light) and white text (dark) can be read


def new_plot(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure with one plot; width and height in inches of 96 pixels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    ink(axes)
    return figure, axes


def ink(axes: Axes) -> None:
    """Set the axes to the page's text colour and hide the upper and the right one."""
    axes.tick_params(labelsize=8, colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)
    axes.title.set_fontsize(9)
    axes.spines[:].set_color(INK)
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: Axes) -> None:
    """Add a legend without a frame, in the page's text colour."""
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def svg(figure: Figure, name: str, alternative: str) -> Markup:
    """Convert a figure to inline SVG with role=img and an alternative text.

    Colours are `INK`, `SERIES` and `CELL`, or such as can be seen on white and on black. `name` is unique in
    the page: the ids of two plots must differ.
    """
    buffer = StringIO()
    # The salt makes the ids the same in each run and different between the plots of a page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser has the fonts; those of matplotlib only measure the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # ids such as axes_1 are in every plot of the page
    text = text.replace(INK, "currentColor")
    for place, colour in enumerate(SERIES, start=1):
        text = text.replace(colour, f"var(--series-{place})")
    return Markup(text.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(alternative), 1))
