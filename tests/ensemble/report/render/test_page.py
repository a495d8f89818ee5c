import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from data.runtime.errors import InputError
from ensemble.report.analysis.report import Report, analyse
from ensemble.report.load.evaluation import Evaluation
from ensemble.report.render.text import to_markdown
from ensemble.report.render.page import write_report
from ensemble.report.render.plots import confusion_figure, row_shares
from ensemble.report.render.terminal import summary
from tests.data.runtime.html.test_render import Reader


@pytest.fixture(scope="module")
def text(findings: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, findings, title="T < U", sources={"Submission": "<s>.csv"})
    return path.read_text(encoding="utf-8")


def test_figures_of_every_task_and_class_stand_in_the_page(text: str, findings: Report) -> None:
    rows = Reader(text).rows
    for name, figures in findings.scores.items():
        spans = [
            "{:.3f} to {:.3f}".format(*figures[f"{metric}_interval"]) for metric in ("macro_f1", "accuracy")
        ]
        start = [name, str(len(figures["classes"])), f"{figures['macro_f1']:.3f}", spans[0]]
        assert [*start, f"{figures['accuracy']:.3f}", spans[1]] in [row[:6] for row in rows]
        for each in figures["classes"]:
            shares = [f"{each[key]:.3f}" for key in ("joint_cost", "precision", "recall", "f1")]
            absent = "" if each["support"] else "(absent)"
            assert [each["name"] + absent, *shares, str(each["support"]), str(each["predicted"])] in rows
    for cause in findings.causes:
        assert [cause.name, str(cause.count), f"{100 * cause.share:.1f} %"] in rows
    for task, each in findings.calibrations.items():
        after = f"{each.error_scaled:.3f}"
        assert [task, f"{each.error:.3f}", f"{each.temperature:.2f}", after] in rows
    assert findings.costliest.replace("<b>$x$ & y</b>", "&lt;b&gt;$x$ &amp; y&lt;/b&gt;") in text


def test_text_is_escaped_and_nothing_is_fetched(text: str) -> None:
    assert "<b>" not in text
    assert "<title>T &lt; U</title>" in text
    assert "&lt;s&gt;.csv" in text
    assert "@import" not in text
    for name, value in Reader(text).attributes:
        if name in ("src", "href", "xlink:href", "action", "data") or "url(" in (value or ""):
            assert re.search(r"^#|^data:|url\(#", value or ""), (name, value)


def test_every_plot_has_its_own_alternative_text_and_ids(text: str, findings: Report) -> None:
    plots = [ElementTree.fromstring(plot) for plot in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)]
    told = [plot.get("aria-label", "") for plot in plots]
    assert all(plot.get("role") == "img" for plot in plots)
    assert len(set(told)) == len(told)
    # Three confusions, age in years, two reliabilities, confidence, one training.
    starts = [
        "Confusion matrix of joint",
        "Wrong answers by age",
        "Reliability of mask",
        "Wrong answers by conf",
    ]
    for start in [*starts, "Training of age, 2 epochs"]:
        assert sum(each.startswith(start) for each in told) == 1
    assert len(told) == 8
    ids = [each.get("id") for plot in plots for each in plot.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    correct = np.trace(np.array(findings.scores["joint"]["confusion"]))
    assert f"Confusion matrix of joint, 6 classes: {correct} of 84 images on the diagonal" in told


def test_without_images_there_are_names_and_a_word_on_how_to_turn_images_on(text: str) -> None:
    assert "<img" not in text
    assert "--images DIR puts thumbnails into the page" in text


def test_with_images_every_listed_wrong_answer_shows_its_image(findings: Report, tmp_path: Path) -> None:
    for mistake in findings.mistakes[:3]:
        Image.new("RGB", (30, 40), "red").save(tmp_path / mistake.image)
    path = tmp_path / "report.html"
    write_report(path, findings, images=tmp_path, most_wrong=3)
    text = path.read_text(encoding="utf-8")
    assert text.count('<img src="data:image/jpeg;base64,') == 3
    assert f"3 of {len(findings.mistakes)} are listed" in text
    assert "--images" not in text
    broken = findings.mistakes[1].image
    (tmp_path / broken).write_text("no image")
    write_report(path, findings, images=tmp_path, most_wrong=3)
    text = path.read_text(encoding="utf-8")
    assert text.count('<img src="data:image/jpeg;base64,') == 2
    assert f"No thumbnail: {tmp_path / broken}: " in text
    with pytest.raises(
        InputError, match=f"1 of 4 listed images cannot be used.*\n.*{findings.mistakes[3].image}"
    ):
        write_report(path, findings, images=tmp_path, most_wrong=4)
    assert path.read_text(encoding="utf-8") == text


def test_wrong_answers_carry_what_they_are_filtered_by(text: str, findings: Report) -> None:
    heads = [json.loads(value or "") for name, value in Reader(text).attributes if name == "data-head"]
    assert heads == [[each.task for each in mistake.heads if each.wrong] for mistake in findings.mistakes]


def test_the_same_findings_give_the_same_page(text: str, findings: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, findings, title="T < U", sources={"Submission": "<s>.csv"})
    assert path.read_text(encoding="utf-8") == text


def test_a_page_with_nothing_but_answers_says_how_to_know_more(tmp_path: Path) -> None:
    tasks = {"마스크": ["착용", "미착용"]}
    bare = Evaluation(tasks, ["a", "b"], np.array([0, 1]), {"s": np.array([0, 0])})
    write_report(tmp_path / "report.html", analyse(bare))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for told in ("착용", "--people", "--probabilities", "--runs", "--images", "drawn by image"):
        assert told in text
    assert "Comparison" not in text


def test_markdown_has_the_tables_of_the_page(findings: Report) -> None:
    told = to_markdown(findings, title="T", sources={"Submission": "s.csv"})
    assert "<b>" not in told
    assert "- Submission: s.csv" in told
    lines = {re.sub(r"\\(.)", r"\1", line) for line in told.splitlines()}
    joint = findings.scores["joint"]
    assert any(line.startswith(f"| joint | 6 | {joint['macro_f1']:.3f} | ") for line in lines)
    for cause in findings.causes:
        assert f"| {cause.name} | {cause.count} | {100 * cause.share:.1f} % |" in lines
    for each in joint["classes"]:
        shares = " | ".join(f"{each[key]:.3f}" for key in ("joint_cost", "precision", "recall", "f1"))
        absent = "" if each["support"] else " (absent)"
        assert f"| {each['name']}{absent} | {shares} | {each['support']} | {each['predicted']} |" in lines


def test_the_terminal_tells_scores_costs_and_differences(findings: Report) -> None:
    lines = summary(findings).splitlines()
    joint = findings.scores["joint"]
    low, high = joint["macro_f1_interval"]
    [line] = [line for line in lines if line.startswith("joint ") and "to" in line]
    expected = [
        "joint",
        f"{joint['macro_f1']:.3f}",
        f"{low:.3f}",
        "to",
        f"{high:.3f}",
        f"{joint['accuracy']:.3f}",
    ]
    assert line.split() == expected
    assert findings.costliest in lines
    assert f"They disagree on {len(findings.comparison.rows)} images." in lines


def test_row_shares_are_scikit_learns() -> None:
    truth, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 2])
    expected = confusion_matrix(truth, predicted, labels=range(3), normalize="true")
    np.testing.assert_allclose(row_shares(confusion_matrix(truth, predicted, labels=range(3))), expected)


def test_cells_tell_count_and_row_percentage() -> None:
    figure = confusion_figure(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert [each.get_text() for each in figure.axes[0].texts] == ["3\n75 %", "1\n25 %"]
