"""The tables of the report, for the page and for Markdown."""

from collections.abc import Sequence

from data.runtime.html.tables import Cell, Table, count, number, percent, signed, text
from ensemble.metrics.scores import JOINT, Score
from ensemble.report.analysis.compare import Estimates
from ensemble.report.analysis.errors import Group
from ensemble.report.analysis.report import Report


def interval_text(low: float, high: float) -> str:
    """An interval as text, such as 0.612 to 0.668."""
    return f"{low:.3f} to {high:.3f}"


def task_table(report: Report) -> Table:
    """Scores of the joint code and of each task, with intervals."""
    columns = ["task", "classes", "macro F1", "95 % interval", "accuracy", "95 % interval"]
    columns += ["joint macro F1 if it were right"]
    rows = []
    for name, each in report.scores.items():
        row = [text(name), count(len(each["classes"]))]
        for metric in ("macro_f1", "accuracy"):
            row += [number(each[metric]), text(interval_text(*each[f"{metric}_interval"]))]
        rows.append([*row, number(report.scores_if_right.get(name))])
    return Table("Scores", columns, rows, name="scores")


def class_table(name: str, score: Score) -> Table:
    """Figures of each class, the costliest for the joint score first, and those without images last."""
    columns = ["class", "cost", "precision", "recall", "F1", "support", "predicted"]
    rows = [
        [
            text(each["name"], "" if each["support"] else "(absent)"),
            *(number(each[key]) for key in ("joint_cost", "precision", "recall", "f1")),
            count(each["support"]),
            count(each["predicted"]),
        ]
        for each in sorted(score["classes"], key=lambda each: (not each["support"], -each["joint_cost"]))
    ]
    return Table(f"Classes of {name}", columns, rows, name=f"classes-{name}")


def cause_table(report: Report) -> Table:
    """Joint errors by the heads that caused them."""
    rows = [[text(each.name), count(each.count), percent(each.share)] for each in report.causes]
    columns = ["wrong", "images", "of all errors"]
    return Table("Which head caused each joint error", columns, rows, name="causes")


def group_table(report: Report, groups: Sequence[Group], caption: str, name: str = "") -> Table:
    """Error rates in groups of images; with a column for the factors if they differ."""
    parts, people = list(report.scores), report.evaluation.people is not None
    mixed = len({tuple(group.parts) for group in groups}) > 1
    columns = ["group", *(["by"] if mixed else []), "images", *(["people"] if people else [])]
    rows = [
        [
            text(group.name),
            *([text(", ".join(group.parts))] if mixed else []),
            count(group.count),
            *([count(group.people)] if group.people is not None else []),
            *(percent(group.errors[part]) for part in parts),
        ]
        for group in groups
    ]
    return Table(caption, [*columns, *(f"{part} wrong" for part in parts)], rows, name=name)


def group_tables(report: Report) -> list[Table]:
    """Error rates by one label, by every pair of labels, and by joint class."""
    captions = {1: "By one label", 2: "By every pair"}
    return [
        group_table(report, groups, captions.get(size, "By joint class"), f"groups-{size}")
        for size, groups in report.groups.items()
    ]


def calibration_table(report: Report) -> Table:
    """Calibration error of each head before and after temperature scaling."""
    columns = ["head", "calibration error", "temperature", "after scaling"]
    rows = [
        [text(task), number(each.error), number(each.temperature, 2), number(each.error_scaled)]
        for task, each in report.calibrations.items()
    ]
    return Table("Expected calibration error, 15 bins", columns, rows, name="calibration-errors")


def views_table(report: Report) -> Table:
    """Predictions that test-time views changed."""
    columns = ["task", "predictions changed", "now right", "now wrong", "wrong both times"]
    columns += ["macro F1, plain view", "all views", "difference"]
    rows = [
        [
            text(name),
            *(count(value) for value in (each.changed, each.better, each.worse)),
            count(each.changed - each.better - each.worse),
            number(each.plain),
            number(each.merged),
            signed(each.merged - each.plain),
        ]
        for name, each in report.views.items()
    ]
    return Table("Predictions that test-time views changed", columns, rows, name="views-changed")


def comparison_tables(report: Report) -> list[Table]:
    """Scores of every submission, and paired differences of every pair, with intervals."""
    parts, compared = list(report.scores), report.comparison
    columns = [*(f"{part} macro F1" for part in parts), "joint accuracy"]
    scores = [[text(name), *estimate_cells(each, parts)] for name, each in compared.scores.items()]
    pairs = [
        [text(f"{first} minus {second}"), *estimate_cells(each, parts, "+")]
        for (first, second), each in compared.differences.items()
    ]
    return [
        Table("Submissions side by side", ["submission", *columns], scores, name="submissions"),
        Table("Differences, paired", ["pair", *columns], pairs, name="differences"),
    ]


def estimate_cells(estimates: Estimates, parts: Sequence[str], sign: str = "") -> list[Cell]:
    """Macro F1 of `parts` and joint accuracy with their intervals; `sign` "+" for differences."""
    write = signed if sign else number
    chosen = [*(estimates[part]["macro_f1"] for part in parts), estimates[JOINT]["accuracy"]]
    return [
        Cell(f"{write(each.value).text} ({write(each.low).text} to {write(each.high).text})", each.value)
        for each in chosen
    ]


def disagreement_table(report: Report, most: int) -> Table:
    """The images on which submissions disagree, at most `most` of them."""
    evaluation, rows = report.evaluation, []
    for row in report.comparison.rows[:most]:
        truth, predicted = evaluation.truth[row], [codes[row] for codes in evaluation.submissions.values()]
        cells = [text(evaluation.joint_classes[each], "" if each == truth else "(wrong)") for each in predicted]
        rows.append([text(evaluation.ids[row]), text(evaluation.joint_classes[truth]), *cells])
    columns = ["image", "truth", *evaluation.submissions]
    return Table("Images on which they disagree", columns, rows, name="disagreements")
