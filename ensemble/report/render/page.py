"""The report as a page: findings to what the template shows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from data.images.find import IMAGES, LISTING
from data.images.thumbnail import thumbnail
from data.runtime.errors import InputError
from data.runtime.html.render import write_page
from ensemble.files.image_paths import image_paths
from ensemble.metrics.scores import JOINT
from ensemble.report.analysis.errors import hardest
from ensemble.report.analysis.mistakes import Mistake
from ensemble.report.analysis.report import Report
from ensemble.report.render import figures as drawn
from ensemble.report.render import tables

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
MOST_WRONG = 300
MOST_DISAGREEMENTS = 500


def write_report(
    path: Path,
    findings: Report,
    *,
    title: str = "Evaluation",
    sources: Mapping[str, str] | None = None,
    images: Path | None = None,
    most_wrong: int = MOST_WRONG,
) -> None:
    """Write `findings` to `path` as one page that asks for nothing from elsewhere.

    Args:
        path: the page, written whole or not at all.
        findings: what it says.
        title: its heading.
        sources: what was evaluated, a label and a text each.
        images: the folder of the images, or one that holds `info.csv` and `images/`; their thumbnails then
            stand in the page. None for names alone.
        most_wrong: how many wrong answers are listed.

    Raises:
        InputError: an image of the list is not in `images`.
    """
    listed = findings.mistakes[:most_wrong]
    thumbnails, unreadable = _thumbnails(listed, images)
    write_page(
        path,
        TEMPLATE,
        title=title,
        lead=findings.costliest,
        notes=[*findings.notes, *_absent(findings), *unreadable],
        f=findings,
        t=tables,
        sources=sources or {},
        tiles=_tiles(findings),
        parts=[drawn.part(name, findings) for name in findings.scores],
        hardest=_hardest(findings),
        number_plots=[drawn.number_plot(each) for each in findings.numbers],
        reliability_plots=[drawn.reliability_plot(name, each) for name, each in findings.calibrations.items()],
        confidence_plot=drawn.confidence_plot(findings),
        training=[drawn.training(run) for run in findings.runs],
        wrong=[_wrong(each, thumbnails.get(each.image)) for each in listed],
        has_images=images is not None,
        class_choices=[f"{task}: {n}" for task, names in findings.evaluation.tasks.items() for n in names],
        most_disagreements=MOST_DISAGREEMENTS,
    )


def _tiles(findings: Report) -> list[tuple[str, str, str]]:
    joint = findings.scores[JOINT]
    people = findings.evaluation.people
    shown = [
        (f"{joint[key]:.3f}", f"joint {name}", f"95 %: {tables.interval_text(*joint[f'{key}_interval'])}")
        for key, name in (("macro_f1", "macro F1"), ("accuracy", "accuracy"))
    ]
    whose = "" if people is None else f"of {len(np.unique(people)):,} people"
    return [*shown, (f"{joint['count']:,}", f"images, {len(joint['classes'])} joint classes", whose)]


def _absent(findings: Report) -> list[str]:
    joint = findings.scores[JOINT]
    absent = joint["absent_classes"]
    if not absent:
        return []
    return [
        f"{len(absent)} of {len(joint['classes'])} joint classes have no image in the answers and count "
        f"as F1 0 in the macro F1: {', '.join(absent)}."
    ]


def _hardest(findings: Report) -> list[str]:
    sentences = []
    for part in findings.scores:
        worst = hardest(findings.groups[max(findings.groups)], part)
        if worst is not None:
            share = 100 * worst.errors[part]
            sentences.append(f"{part} fails most for {worst.name}: {share:.0f} % of {worst.count:,} images.")
    return sentences


def _thumbnails(listed: Sequence[Mistake], images: Path | None) -> tuple[dict[str, Markup], list[str]]:
    """Thumbnails by the image's id, and a note on each that cannot be decoded."""
    thumbnails: dict[str, Markup] = {}
    notes: list[str] = []
    if images is None or not listed:
        return thumbnails, notes
    folder = images / IMAGES if (images / LISTING).is_file() else images
    paths = image_paths(folder, [each.image for each in listed])
    for each, path in zip(listed, paths, strict=True):
        try:
            thumbnails[each.image] = thumbnail(path, f"{each.image}: {each.answer}, truth {each.truth}")
        except InputError as error:
            notes.append(f"No thumbnail: {error}.")
    return thumbnails, notes


def _wrong(mistake: Mistake, image: Markup | None) -> dict[str, Any]:
    heads = [each.task for each in mistake.heads if each.wrong]
    return {
        "mistake": mistake,
        "image": image,
        "heads": json.dumps(heads),
        "truth": json.dumps([f"{each.task}: {each.truth}" for each in mistake.heads]),
    }
