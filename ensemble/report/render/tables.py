"""The report's tables, for the page and for Markdown alike."""

from collections.abc import Sequence

from data.runtime.html.tables import Cell, Table, cells, count, number, percent, signed, text
from ensemble.metrics.scores import JOINT, Score
from ensemble.report.analysis.compare import Estimate, Estimates
from ensemble.report.analysis.errors import Group
from ensemble.report.analysis.report import Report


def interval_text(low: float, high: float) -> str:
    """An interval as the report writes it: 0.612 to 0.668."""
    return f"{low:.3f} to {high:.3f}"


def task_table(findings: Report) -> Table:
    """Scores of the joint answer and of each task, with intervals."""
    columns = ["task", "classes", "macro F1", "95 % interval", "accuracy", "95 % interval"]
    columns += ["joint macro F1 if it were right"]
    rows = []
    for name, each in findings.scores.items():
        spans = [interval_text(*each[f"{metric}_interval"]) for metric in ("macro_f1", "accuracy")]
        figures = [number(each["macro_f1"]), text(spans[0]), number(each["accuracy"]), text(spans[1])]
        rows.append(cells([name, len(each["classes"]), *figures, number(findings.scores_if_right.get(name))]))
    return Table("Scores", columns, rows, name="scores")


def class_table(name: str, figures: Score) -> Table:
    """Figures of each class, the costliest for the joint score first."""
    columns = ["class", "cost", "precision", "recall", "F1", "support", "predicted"]
    rows = [
        [
            Cell(each["name"], None, "" if each["support"] else "(absent)"),
            *(number(each[key]) for key in ("joint_cost", "precision", "recall", "f1")),
            count(each["support"]),
            count(each["predicted"]),
        ]
        for each in sorted(figures["classes"], key=lambda each: -each["joint_cost"])
    ]
    return Table(f"Classes of {name}", columns, rows, name=f"classes-{name}")


def cause_table(findings: Report) -> Table:
    """Which heads caused the joint errors."""
    rows = [[text(each.name), count(each.count), percent(each.share)] for each in findings.causes]
    return Table(
        "Which head caused each joint error", ["wrong", "photographs", "of all errors"], rows, name="causes"
    )


def group_table(findings: Report, groups: Sequence[Group], caption: str, name: str = "") -> Table:
    """Shares of wrong answers in groups of images; what groups are by is told where that differs."""
    parts = [JOINT, *findings.evaluation.tasks]
    peopled = findings.evaluation.people is not None
    mixed = len({tuple(group.parts) for group in groups}) > 1
    columns = ["who", *(["by"] if mixed else []), "photographs", *(["people"] if peopled else [])]
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


def group_tables(findings: Report) -> list[Table]:
    """Wrong answers by one label, by every pair, and by joint class."""
    captions = {1: "By one label", 2: "By every pair"}
    return [
        group_table(findings, groups, captions.get(size, "By joint class"), f"groups-{size}")
        for size, groups in findings.groups.items()
    ]


def calibration_table(findings: Report) -> Table:
    """Calibration error of each head before and after temperature scaling."""
    rows = [
        [text(task), number(each.error), number(each.temperature, 2), number(each.error_scaled)]
        for task, each in findings.calibrations.items()
    ]
    columns = ["head", "calibration error", "temperature", "after scaling"]
    return Table("Expected calibration error, 15 bins", columns, rows, name="calibration-errors")


def views_table(findings: Report) -> Table:
    """What test-time views changed."""
    columns = ["task", "answers changed", "now right", "now wrong", "wrong both times"]
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
        for name, each in findings.views.items()
    ]
    return Table("Answers that test-time views changed", columns, rows, name="views-changed")


def comparison_table(findings: Report) -> Table:
    """Every submission's scores with intervals."""
    compared = findings.comparison
    parts = list(findings.scores)
    columns = ["submission", *(f"{part} macro F1" for part in parts), "joint accuracy"]
    rows = [
        [text(name), *(_spanned(compared.scores[name][part]["macro_f1"]) for part in parts)]
        + [_spanned(compared.scores[name][JOINT]["accuracy"])]
        for name in compared.names
    ]
    return Table("Submissions side by side", columns, rows, name="submissions")


def difference_table(findings: Report) -> Table:
    """Every pair's difference with its paired interval."""
    parts = list(findings.scores)
    columns = ["pair", *(f"{part} macro F1" for part in parts), "joint accuracy"]
    rows = [
        [text(f"{each.first} minus {each.second}"), *differences(each.estimates, parts)]
        for each in findings.comparison.differences
    ]
    return Table("Differences, paired", columns, rows, name="differences")


def differences(estimates: Estimates, parts: Sequence[str]) -> list[Cell]:
    """Macro F1 of `parts` and joint accuracy, as differences with their intervals."""
    chosen = [*(estimates[part]["macro_f1"] for part in parts), estimates[JOINT]["accuracy"]]
    return [
        Cell(f"{signed(each.value).text} ({signed(each.low).text} to {signed(each.high).text})", each.value)
        for each in chosen
    ]


def disagreement_table(findings: Report, most: int) -> Table:
    """The images on which submissions disagree, at most `most` of them."""
    evaluation = findings.evaluation
    names = evaluation.joint_classes
    rows = []
    for row in findings.comparison.rows[:most]:
        right = int(evaluation.truth[row])
        answers = [int(codes[row]) for codes in evaluation.submissions.values()]
        given = [Cell(names[each], None, "" if each == right else "(wrong)") for each in answers]
        rows.append([text(evaluation.ids[row]), text(names[right]), *given])
    caption = "Images on which they disagree"
    return Table(caption, ["photograph", "truth", *evaluation.submissions], rows, name="disagreements")


def _spanned(estimate: Estimate) -> Cell:
    return Cell(f"{estimate.value:.3f} ({interval_text(estimate.low, estimate.high)})", estimate.value)
