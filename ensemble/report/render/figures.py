"""The page's plots, each with the words that stand for it."""

from typing import Any

import numpy as np
from markupsafe import Markup

from data.runtime.html.plots import svg
from ensemble.metrics.scores import JOINT
from ensemble.report.analysis.calibration import Calibration
from ensemble.report.analysis.errors import NumberErrors
from ensemble.report.analysis.report import Report
from ensemble.report.load.runs import TrainingRun
from ensemble.report.render import plots, tables


def part(name: str, findings: Report) -> dict[str, Any]:
    """What the template shows of one task or of the joint code."""
    figures = findings.scores[name]
    class_names = [each["name"] for each in figures["classes"]]
    told = (
        f"Confusion matrix of {name}, {len(class_names)} classes: "
        f"{np.trace(figures['confusion'])} of {figures['count']} images on the diagonal"
    )
    plot = plots.confusion_figure(np.array(figures["confusion"]), class_names)
    return {
        "name": name,
        "is_joint": name == JOINT,
        "classes": tables.class_table(name, figures),
        "plot": svg(plot, f"confusion {name}", told),
    }


def number_plot(errors: NumberErrors) -> dict[str, Any]:
    """Wrong answers along a number."""
    name = errors.number.name
    worst = max(errors.bins, key=lambda group: group.errors[JOINT])
    borders = " and ".join(f"{border:g}" for border in errors.number.borders)
    told = (
        f"Wrong answers by {name}, {len(errors.bins)} bins, borders at {borders}: most from "
        f"{worst.name}, {100 * worst.errors[JOINT]:.0f} % of the joint answers"
    )
    return {
        "name": name,
        "plot": svg(plots.number_figure(errors), f"errors by {name}", told),
        "near": errors.near,
    }


def reliability_plot(name: str, calibration: Calibration) -> dict[str, Any]:
    """One head's accuracy by confidence."""
    told = f"Reliability of {name}: expected calibration error {calibration.error:.3f}"
    if calibration.error_scaled is not None:
        told += f", {calibration.error_scaled:.3f} after temperature scaling"
    return {"name": name, "plot": svg(plots.reliability_figure(calibration), f"reliability {name}", told)}


def confidence_plot(findings: Report) -> Markup | None:
    """Error against confidence of all heads; None without their probabilities."""
    if not findings.curves:
        return None
    told = "; ".join(
        f"{name} {100 * float(np.interp(0.5, each.kept, each.error)):.1f} % among the surest half, "
        f"{100 * each.error[-1]:.1f} % of all"
        for name, each in findings.curves.items()
    )
    return svg(plots.confidence_figure(findings.curves), "confidence", f"Wrong answers by confidence: {told}")


def training(run: TrainingRun) -> dict[str, Any]:
    """A run's curves and what is known of it."""
    epochs = run.history["epoch"]
    best = run.best.get("epoch")
    reached = ", ".join(f"{key} {value:.3f}" for key, value in run.best.items() if key != "epoch")
    told = f"Training of {run.name}, {len(epochs)} epochs; kept epoch {best or epochs[-1]:g}: {reached}"
    facts = {"validation of the epoch kept": reached or "not recorded"}
    facts["minutes"] = "not recorded" if run.minutes is None else f"{run.minutes:g} for {len(epochs)} epochs"
    facts["machine"] = ", ".join(f"{key} {value}" for key, value in run.machine.items()) or "not recorded"
    facts["versions"] = ", ".join(f"{key} {value}" for key, value in run.versions.items()) or "not recorded"
    plot = svg(plots.history_figure(run.history, best), f"training {run.name}", told)
    return {"name": run.name, "plot": plot, "facts": facts, "config": run.config}
