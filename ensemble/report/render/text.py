"""The report as Markdown: its tables, for a pull request or a notebook."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data.runtime.files import write_text
from data.runtime.html.tables import Cell, Table
from ensemble.report.analysis.report import Report
from ensemble.report.render import tables


def write_markdown(
    path: Path, findings: Report, *, title: str = "Evaluation", sources: Mapping[str, str] | None = None
) -> None:
    """Write the tables of `findings` to `path`, whole or not at all."""
    write_text(path, to_markdown(findings, title=title, sources=sources))


def to_markdown(
    findings: Report, *, title: str = "Evaluation", sources: Mapping[str, str] | None = None
) -> str:
    """`findings` as text: what costs most, then every table that the page has, without plots and images."""
    blocks = [f"# {_plain(title)}", _plain(findings.costliest), *(_plain(note) for note in findings.notes)]
    blocks += [f"- {_plain(label)}: {_plain(told)}" for label, told in (sources or {}).items()]
    shown = [tables.task_table(findings)]
    shown += [tables.class_table(name, figures) for name, figures in findings.scores.items()]
    shown += [tables.cause_table(findings)]
    for errors in findings.numbers:
        caption = f"Wrong answers by {errors.number.name}"
        shown += [tables.group_table(findings, [*errors.bins, *errors.near], caption)]
    shown += tables.group_tables(findings)
    if findings.calibrations:
        shown += [tables.calibration_table(findings)]
    if findings.views:
        shown += [tables.views_table(findings)]
    if len(findings.comparison.names) > 1:
        shown += [tables.comparison_table(findings), tables.difference_table(findings)]
    return "\n\n".join([*blocks, *(_table(each) for each in shown)]) + "\n"


def _table(table: Table) -> str:
    """A Markdown table under a heading, figures to the right.

    >>> print(_table(Table("Ages", ["who", "n"], [[Cell("a|b"), Cell("2", 2)]])))
    ## Ages
    <BLANKLINE>
    | who | n |
    | :--- | ---: |
    | a\\|b | 2 |
    """
    lines = [_row(table.columns), _row([":---", *["---:"] * (len(table.columns) - 1)])]
    lines += [_row([_cell(cell) for cell in row]) for row in table.rows]
    return "\n".join([f"## {_plain(table.caption)}", "", *lines])


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _cell(cell: Cell) -> str:
    return _plain(f"{cell.text} {cell.note}".strip())


def _plain(text: str) -> str:
    """Text that Markdown takes as it is: no markup, no break of a row."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
