import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from ensemble.metrics import score_joint
from ensemble.report import confusion_figure, row_shares, write_report

TASKS = {"mask": ["wear", "<b>$x$ & y</b>"], "age": ["under 30", "30 to 59", "60 and over"]}
VOID = {"meta"}


class Page(HTMLParser):
    """Texts of a page's cells and headings, and whether its elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

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


@pytest.fixture(scope="module")
def scores() -> dict:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 5, 60)  # the sixth class, "<b>... / 60 and over", is absent
    predicted = np.where(generator.random(60) < 0.7, truth, generator.integers(0, 5, 60))
    return score_joint(truth, predicted, TASKS)


@pytest.fixture(scope="module")
def text(scores: dict, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, scores, title="T < U", sources={"Submission": "<s>.csv"}, notes=["a & b"])
    return path.read_text(encoding="utf-8")


def test_figures_of_every_task_stand_in_the_page(text: str, scores: dict) -> None:
    page = Page(text)
    assert page.open == []
    for name, figures in scores.items():
        row = [
            name,
            str(len(figures["classes"])),
            f"{figures['macro_f1']:.3f}",
            f"{figures['accuracy']:.3f}",
        ]
        assert row in page.rows
        for each in figures["classes"]:
            shares = [f"{each[key]:.3f}" for key in ("joint_cost", "precision", "recall", "f1")]
            absent = "" if each["support"] else "(absent)"
            assert [each["name"] + absent, *shares, str(each["support"]), str(each["predicted"])] in page.rows


def test_the_costliest_class_comes_first(text: str) -> None:
    tables = text.split("<h2>")[2:]
    for table in tables:
        costs = [float(row[1]) for row in Page(f"<h2>{table.split('<svg')[0]}").rows[1:]]
        assert costs == sorted(costs, reverse=True)
        assert len(costs) > 1


def test_text_is_escaped_and_the_absent_class_told(text: str) -> None:
    assert "<b>" not in text
    assert "<title>T &lt; U</title>" in text
    assert "&lt;s&gt;.csv" in text
    assert "1 of 6 joint classes have no photograph" in text


def test_nothing_is_fetched_from_elsewhere(text: str) -> None:
    assert "<script" not in text
    assert "@import" not in text
    for name, value in Page(text).attributes:
        if name in ("src", "href", "xlink:href", "action", "data") or "url(" in (value or ""):
            assert re.search(r"^#|url\(#", value or ""), (name, value)


def test_plots_are_labelled_drawings_in_the_pages_colours(text: str, scores: dict) -> None:
    plots = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(plots) == len(scores)
    ids: list[str] = []
    for plot, (name, figures) in zip(plots, scores.items(), strict=True):
        root = ElementTree.fromstring(plot)
        assert root.get("role") == "img"
        correct = np.trace(np.array(figures["confusion"]))
        assert root.get("aria-label") == (
            f"Confusion matrix of {name}, {len(figures['classes'])} classes: "
            f"{correct} of 60 photographs on the diagonal"
        )
        texts = {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {each["name"] for each in figures["classes"]} <= texts
        assert "currentColor" in plot
        assert "#000000" not in plot
        ids += [each.get("id", "") for each in root.iter() if each.get("id")]
    assert len(ids) == len(set(ids))


def test_the_same_figures_give_the_same_page(text: str, scores: dict, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, scores, title="T < U", sources={"Submission": "<s>.csv"}, notes=["a & b"])
    assert path.read_text(encoding="utf-8") == text


def test_names_in_any_script_are_drawn_without_a_warning(tmp_path: Path) -> None:
    scores = score_joint(np.array([0, 1]), np.array([0, 0]), {"마스크": ["착용", "미착용"]})
    write_report(tmp_path / "report.html", scores)
    assert "착용" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_row_shares_are_scikit_learns() -> None:
    truth, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 2])
    expected = confusion_matrix(truth, predicted, labels=range(3), normalize="true")
    np.testing.assert_allclose(row_shares(confusion_matrix(truth, predicted, labels=range(3))), expected)


def test_cells_tell_count_and_row_percentage() -> None:
    figure = confusion_figure(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert [each.get_text() for each in figure.axes[0].texts] == ["3\n75 %", "1\n25 %"]
