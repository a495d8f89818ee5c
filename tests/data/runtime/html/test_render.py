"""Pages and their plots: escaped, complete in themselves, and in the page's colours."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from data.runtime.html.plots import SERIES, legend, new_plot, svg
from data.runtime.html.render import render_page
from data.runtime.html.tables import DASH, Cell, Table, count, number

VOID = {"meta", "link", "img", "br"}
MAIN = '{% extends "base.html" %}{% import "parts.html" as parts %}{% block main %}'
PAGE = (
    MAIN + '{{ parts.table(table) }}{{ parts.tiles([("1", "<b>", "x")]) }}{{ parts.figure(plot, "A plot.") }}'
    '{{ parts.filter("list", "head", "head", ["mask"]) }}{{ parts.contents([("a", "A & B")]) }}{% endblock %}'
)
TABLE = Table("People & ages", ["who", "n", "F1"], [[Cell("<i>", note="few"), count(1200), number(None)]])
VALUES = {"title": "T < U", "notes": ["a & b", "\udce9.jpg"], "table": TABLE, "plot": "-"}


class Reader(HTMLParser):
    """Rows of a page's tables and its attributes; every element must close in order."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += text.strip()


@pytest.fixture
def template(tmp_path):
    (tmp_path / "page.html").write_text(PAGE, encoding="utf-8")
    return tmp_path / "page.html"


def test_values_are_escaped_and_nothing_is_fetched_from_elsewhere(template):
    text = render_page(template, **VALUES)
    assert Reader(text).rows == [["who", "n", "F1"], ["<i>few", "1,200", DASH]]
    assert "<title>T &lt; U</title>" in text
    assert "a &amp; b" in text
    assert "\\udce9.jpg" in text, "the name of a file that is not UTF-8"
    assert text.encode("utf-8")
    assert not {"<i>", "<b>"} & set(re.findall("<.>", text))
    assert "default-src 'none'" in text
    assert not re.search(r"""@import|https?://|url\(|fetch\(|XMLHttpRequest|<script [^>]*src""", text)
    for name, value in Reader(text).attributes:
        if name in ("src", "href", "action"):
            assert re.match(r"#|data:", value or ""), (name, value)


def drawing(name):
    figure, axes = new_plot(3, 2)
    axes.plot([0, 1], [1, 0], color=SERIES[0], label="착용 <b>")
    axes.fill_between([0, 1], [0, 0], [1, 0], color=SERIES[1], alpha=0.3)
    axes.set_xlabel("years")
    legend(axes)
    return svg(figure, name, 'says "a" & b')


def test_plots_are_drawings_in_the_pages_colours_that_share_no_id():
    text, other = drawing("one"), drawing("two")
    root = ElementTree.fromstring(text)
    assert (root.get("role"), root.get("aria-label")) == ("img", 'says "a" & b')
    assert {"years", "착용 <b>"} <= {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"currentColor", "var(--series-1)", "var(--series-2)"} <= set(re.findall(r"var\(.*?\)|currentColor", text))
    assert not any(colour in text for colour in (*SERIES, "#000000"))
    ids = [each.get("id") for plot in (root, ElementTree.fromstring(other)) for each in plot.iter() if each.get("id")]
    assert len(ids) == len(set(ids)) > 0
    assert drawing("one") == text
