"""The report in the terminal: a table, and what stands out."""

from collections.abc import Mapping
from typing import Any

from ensemble.metrics.scores import JOINT
from ensemble.report.analysis.report import Report


def summary(findings: Report) -> str:
    """What the terminal shows: scores, what costs most, differences between submissions, notes."""
    lines = [score_table(findings.scores), "", findings.costliest]
    for each in findings.comparison.differences:
        joint = each.estimates[JOINT]["macro_f1"]
        told = f"{joint.value:+.3f} ({joint.low:+.3f} to {joint.high:+.3f})"
        lines.append(f"{each.first} minus {each.second}: joint macro F1 {told}")
    if len(findings.comparison.names) > 1:
        lines.append(f"They disagree on {len(findings.comparison.rows)} images.")
    return "\n".join([*lines, *findings.notes])


def score_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The scores of each task and of the joint answer, and what the answers hold no image of.

    >>> print(score_table({"joint": {"macro_f1": 0.5, "accuracy": 1, "count": 2, "absent_classes": ["normal"],
    ...                              "classes": [{}, {}]}}))
             macro F1  accuracy
    joint       0.500     1.000
    <BLANKLINE>
    2 images
    joint: no image of 1 of 2 classes, each counted as F1 0 in the macro F1: normal
    """
    ordered = sorted(scores.items(), key=lambda item: item[0] == JOINT)
    width = max(len(name) for name in scores) + 2
    sure = all("macro_f1_interval" in each for each in scores.values())
    calibrated = any("expected_calibration_error" in each for each in scores.values())
    lines = [
        f"{'':{width}}  macro F1"
        + ("   95 % interval" if sure else "")
        + "  accuracy"
        + ("  calibration error" if calibrated else "")
    ]
    for name, each in ordered:
        line = f"{name:{width}}  {each['macro_f1']:8.3f}"
        if sure:
            low, high = each["macro_f1_interval"]
            line += f"  {low:.3f} to {high:.3f}"
        line += f"  {each['accuracy']:8.3f}"
        error = each.get("expected_calibration_error")
        lines.append(line if error is None else f"{line}  {error:17.3f}")
    lines += ["", f"{scores[JOINT]['count']} images"]
    for name, each in ordered:
        absent = each["absent_classes"]
        if absent:
            lines.append(
                f"{name}: no image of {len(absent)} of {len(each['classes'])} classes, "
                f"each counted as F1 0 in the macro F1: {', '.join(absent)}"
            )
    return "\n".join(lines)
