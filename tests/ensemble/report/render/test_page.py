import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from data.images.decode import decode
from data.runtime.errors import InputError
from ensemble.metrics.scores import score
from ensemble.report.analysis.errors import sample_predictions
from ensemble.report.analysis.report import Report, analyse
from ensemble.report.render.page import render_report
from ensemble.report.render.plots import confusion_plot, history_figure, pairs_plot
from ensemble.report.render.tables import class_table
from ensemble.report.render.text import summary, to_markdown
from ensemble.report.render.thumbnail import overlay, thumbnail
from tests.data.runtime.html.test_render import Reader
from tests.ensemble.report.conftest import TASKS


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return render_report(report, {"Submission": "<s>.csv"})


def test_page_and_markdown_have_the_scores_of_every_task_and_class(text: str, report: Report) -> None:
    expected = [[cause.name, str(cause.count), f"{100 * cause.share:.1f} %"] for cause in report.causes]
    for part, scores in report.scores.items():
        expected.append([part, str(len(scores["classes"])), f"{scores['macro_f1']:.3f}"])
        expected[-1].append("{:.3f} to {:.3f}".format(*scores["macro_f1_interval"]))
        for each in scores["classes"]:
            expected.append([each["name"], *(f"{each[key]:.3f}" for key in ("joint_cost", "precision", "recall"))])
    markdown = to_markdown(report, {"Submission": "s.csv"})
    assert "<b>" not in markdown
    assert "- Submission: s.csv" in markdown
    lines = [re.sub(r"\\(.)", r"\1", line)[2:].split(" | ") for line in markdown.splitlines()]
    for rows in (Reader(text).rows, lines):
        texts = ["|".join(row).replace("(absent)", "").replace(" |", "|") for row in rows]
        assert [row for row in expected if not any(each.startswith("|".join(row)) for each in texts)] == []


def test_text_is_escaped(text: str, report: Report) -> None:
    assert "<b>" not in text
    assert report.costliest.replace("<b>$x$ & y</b>", "&lt;b&gt;$x$ &amp; y&lt;/b&gt;") in text
    assert "&lt;s&gt;.csv" in text


def test_every_plot_has_its_own_alternative_text_and_ids(text: str) -> None:
    plots = [ElementTree.fromstring(plot) for plot in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)]
    # Three confusion matrices, errors by age and by pairs, two reliabilities, confidence, one training.
    assert len({plot.get("aria-label") for plot in plots}) == len(plots) == 9
    ids = [each.get("id") for plot in plots for each in plot.iter() if each.get("id")]
    assert len(ids) == len(set(ids))


def test_thumbnails_are_embedded_where_a_folder_is_given(text: str, report: Report, tmp_path: Path) -> None:
    assert "<img" not in text
    for name in report.evaluation.ids:
        Image.new("RGB", (30, 40), "red").save(tmp_path / name)
    broken, missing = (tmp_path / report.wrong[place].image for place in (1, 3))
    broken.write_text("no image")
    page = render_report(report, {}, tmp_path, 3)
    assert broken.name not in [each.image for each in sample_predictions(report.evaluation)]
    assert page.count('<img src="data:image/jpeg;base64,') == 2 + 12 + 12
    assert f"No thumbnail: {broken}: " in page
    assert f"3 of {len(report.wrong)} are listed" in page
    missing.unlink()
    with pytest.raises(InputError, match=f"1 of .* listed images cannot be used.*\n.*{missing.name}"):
        render_report(report, {}, tmp_path, 4)


def test_a_map_is_red_where_it_is_above_0() -> None:
    pixels = np.full((80, 60, 3), 200, dtype=np.uint8)
    over = overlay(pixels, np.array([[3.0, -1.0], [3.0, 0.0]], dtype=np.float32)).astype(int)
    np.testing.assert_array_equal(over[:, -5:], 200)
    assert (over[:, :5, 0] - over[:, :5, 1] > 100).all()
    np.testing.assert_array_equal(overlay(pixels, np.array([[-1.0]])), pixels)


def test_a_thumbnail_is_small_and_holds_nothing_but_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (300, 400), (200, 30, 30)).save(tmp_path / "a.jpg", exif=exif)
    text = thumbnail(decode(tmp_path / "a.jpg"), 'a "quoted" name', height=80)
    assert 'alt="a &#34;quoted&#34; name" width="60" height="80"' in text
    [encoded] = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    content = base64.b64decode(encoded)
    assert b"taken at home" not in content
    embedded = Image.open(io.BytesIO(content))
    assert embedded.size == (60, 80)
    np.testing.assert_allclose(np.asarray(embedded).mean(axis=(0, 1)), (200, 30, 30), atol=4)


def test_cells_of_a_confusion_matrix_have_count_and_row_percentage() -> None:
    truth, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 2])
    plot = ElementTree.fromstring(confusion_plot("x", score(truth, predicted, ["a", "b", "c"])))
    found = re.findall(r"(\d+) (\d+) %", " ".join(" ".join(plot.itertext()).split()))
    assert found == [("1", "50"), ("1", "50"), ("2", "67"), ("1", "33")]


def test_every_pair_of_labels_is_in_the_heat_map(report: Report) -> None:
    plot = ElementTree.fromstring(pairs_plot(report))
    found = re.findall(r"(\d+) % (\d+)", " ".join(" ".join(plot.itertext()).split()))
    groups = [*report.groups[1], *report.groups[2]]
    expected = [(f"{100 * each.errors['joint']:.0f}", str(each.count)) for each in groups]
    assert sorted(found) == sorted(expected)


def test_classes_without_images_are_counted_and_scored_without(report: Report) -> None:
    tasks = {"mask": [*TASKS["mask"], "torn"], "age": TASKS["age"]}
    absent = analyse(replace(report.evaluation, tasks=tasks, outputs={}))
    joint = absent.scores["joint"]
    assert joint["macro_f1"] == pytest.approx(joint["macro_f1_present"] * 6 / 9)
    page, figure = render_report(absent, {}), f"{joint['macro_f1_present']:.3f}"
    assert f"<strong>{figure}</strong> mean F1 of joint classes" in page
    for text in (page, summary(absent), to_markdown(absent, {})):
        [note] = re.findall("joint: no image of 3 of 9 classes, each counted as F1 0; mean F1 of the others .*", text)
        assert f" others {figure}; absent: torn / under 30, " in note
    assert [bool(row[0].note) for row in class_table("joint", joint).rows] == [False] * 6 + [True] * 3


def test_curves_join_the_epochs_that_were_validated() -> None:
    history = {"epoch": [1.0, 2.0, 3.0], "train_loss": [4.0, 3.0, 2.0], "macro_f1": [0.5, np.nan, 0.7]}
    loss, f1 = [axes.lines[0].get_xydata().tolist() for axes in history_figure(history, None).axes]
    assert (loss, f1) == ([[1, 4], [2, 3], [3, 2]], [[1, 0.5], [3, 0.7]])
