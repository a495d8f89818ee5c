import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from data.runtime.html.render import render_page, write_page
from data.runtime.html.tables import DASH, Cell, Table, count, number

VOID = {"meta", "link", "img", "br"}
MAIN = '{% extends "base.html" %}{% import "parts.html" as parts %}{% block main %}'
PAGE = (
    MAIN + '{{ parts.table(table) }}{{ parts.tiles([("1", "<b>", "x")]) }}{{ parts.figure(plot, "A plot.") }}'
    '{{ parts.filter("list", "head", "head", ["mask"]) }}{{ parts.contents([("a", "A & B")]) }}{% endblock %}'
)


class Reader(HTMLParser):
    """Rows of a page's tables and its attributes; every element must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += text.strip()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text(PAGE, encoding="utf-8")
    return tmp_path / "page.html"


TABLE = Table("People & ages", ["who", "n", "F1"], [[Cell("<i>", note="few"), count(1200), number(None)]])
VALUES = {"title": "T < U", "notes": ["a & b"], "table": TABLE, "plot": "-"}


def test_tables_and_texts_stand_in_the_page_escaped(template: Path) -> None:
    text = render_page(template, **VALUES)
    assert Reader(text).rows == [["who", "n", "F1"], ["<i>few", "1,200", DASH]]
    assert "<title>T &lt; U</title>" in text
    assert "a &amp; b" in text
    assert "<i>" not in text
    assert "<b>" not in text
    assert 'data-value="1200"' in text


def test_nothing_is_fetched_from_elsewhere(template: Path) -> None:
    text = render_page(template, **VALUES)
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert not re.search(r"""https?://|url\(|fetch\(|XMLHttpRequest|<script [^>]*src""", text)
    for name, value in Reader(text).attributes:
        if name in ("src", "href", "action"):
            assert re.match(r"#|data:", value or ""), (name, value)


def test_an_unknown_variable_is_an_error(template: Path) -> None:
    with pytest.raises(UndefinedError, match="plot"):
        render_page(template, title="T", table=TABLE)


def test_a_page_that_cannot_be_made_leaves_the_old_one(template: Path) -> None:
    path = template.parent / "out.html"
    write_page(path, template, **VALUES)
    before = path.read_bytes()
    with pytest.raises(UndefinedError):
        write_page(path, template, title="T")
    assert path.read_bytes() == before


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="1 cells in a row, expected 2"):
        Table("c", ["a", "b"], [[count(1)]])
