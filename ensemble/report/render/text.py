"""The report as text: a summary for the terminal, and its tables as Markdown."""

from collections.abc import Mapping
from typing import Any

from data.runtime.html.tables import Table
from ensemble.metrics.scores import JOINT
from ensemble.report.analysis.report import Report
from ensemble.report.render import tables


def summary(report: Report) -> str:
    """The summary for the terminal: scores, costliest task, differences between submissions, notes."""
    lines = [score_table(report.scores), "", report.costliest]
    for (first, second), estimates in report.comparison.differences.items():
        joint = estimates[JOINT]["macro_f1"]
        interval = f"{joint.low:+.3f} to {joint.high:+.3f}"
        lines.append(f"{first} minus {second}: joint macro F1 {joint.value:+.3f} ({interval})")
    if report.comparison.differences:
        lines.append(f"They disagree on {len(report.comparison.rows)} images.")
    return "\n".join([*lines, *report.notes])


def score_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The scores of each task and of the joint code, and the classes without an image.

    >>> each = {"macro_f1": 0.5, "macro_f1_present": 1, "accuracy": 1, "macro_f1_interval": (0.4, 0.6), "count": 2}
    >>> print(score_table({"joint": {**each, "absent_classes": ["normal"], "classes": [{}, {}]}}))
             macro F1   95 % interval  accuracy
    joint       0.500  0.400 to 0.600     1.000
    <BLANKLINE>
    2 images
    joint: no image of 1 of 2 classes, each counted as F1 0; mean F1 of the others 1.000; absent: normal
    """
    ordered = sorted(scores.items(), key=lambda item: item[0] == JOINT)
    width = max(len(name) for name in scores) + 2
    calibrated = any("expected_calibration_error" in each for each in scores.values())
    heading = f"{'':{width}}  macro F1   95 % interval  accuracy"
    lines = [f"{heading}  calibration error" if calibrated else heading]
    for name, each in ordered:
        interval = tables.interval_text(*each["macro_f1_interval"])
        line = f"{name:{width}}  {each['macro_f1']:8.3f}  {interval}  {each['accuracy']:8.3f}"
        error = each.get("expected_calibration_error")
        lines.append(line if error is None else f"{line}  {error:17.3f}")
    lines += ["", f"{scores[JOINT]['count']} images"]
    for name, each in ordered:
        lines += absent_classes(name, each)
    return "\n".join(lines)


def absent_classes(name: str, score: Mapping[str, Any]) -> list[str]:
    """A sentence on the classes of one task, or of the joint code, without an image; none if there are none."""
    absent, count = score["absent_classes"], len(score["classes"])
    text = f"{name}: no image of {len(absent)} of {count} classes, each counted as F1 0; mean F1 of the others "
    return [f"{text}{score['macro_f1_present']:.3f}; absent: {', '.join(absent)}"] if absent else []


def to_markdown(report: Report, sources: Mapping[str, str]) -> str:
    """The tables of the page as Markdown, below the costliest task, the notes and the `sources` by label."""
    notes = (report.costliest, *report.notes, *absent_classes(JOINT, report.scores[JOINT]))
    blocks = ["# Evaluation", *(_escape(text) for text in notes)]
    blocks += [f"- {_escape(label)}: {_escape(path)}" for label, path in sources.items()]
    chosen = [tables.task_table(report)]
    chosen += [tables.class_table(name, score) for name, score in report.scores.items()]
    chosen += [tables.cause_table(report)]
    for errors in report.numbers:
        caption = f"Wrong predictions by {errors.number.name}"
        chosen += [tables.group_table(report, [*errors.bins, *errors.near], caption)]
    chosen += tables.group_tables(report)
    if report.calibrations:
        chosen += [tables.calibration_table(report)]
    if report.views:
        chosen += [tables.views_table(report)]
    if report.comparison.differences:
        chosen += tables.comparison_tables(report)
    return "\n\n".join([*blocks, *(_table(each) for each in chosen)]) + "\n"


def _table(table: Table) -> str:
    """A Markdown table below a heading, with numbers aligned to the right.

    >>> from data.runtime.html.tables import count, text
    >>> print(_table(Table("Ages", ["who", "n"], [[text("a|b"), count(2)]])))
    ## Ages
    <BLANKLINE>
    | who | n |
    | :--- | ---: |
    | a\\|b | 2 |
    """
    rows = [table.columns, [":---", *["---:"] * (len(table.columns) - 1)]]
    rows += [[_escape(f"{cell.text} {cell.note}") for cell in row] for row in table.rows]
    return "\n".join([f"## {_escape(table.caption)}", "", *(f"| {' | '.join(row)} |" for row in rows)])


def _escape(text: str) -> str:
    """`text` without line breaks and Markdown markup."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
