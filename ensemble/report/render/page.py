"""Write the report: metrics.json, one HTML page that opens offline, and Markdown."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from data.images.decode import decode
from data.images.find import IMAGES, LISTING, image_paths
from data.runtime.errors import InputError, printable
from data.runtime.files import write_text
from data.runtime.html.render import render_page
from ensemble.metrics.scores import JOINT
from ensemble.report.analysis.errors import ImageResult, hardest, sample_predictions
from ensemble.report.analysis.maps import wrong_maps
from ensemble.report.analysis.report import Report, to_json
from ensemble.report.load.runs import TrainingRun
from ensemble.report.render import plots, tables
from ensemble.report.render.text import absent_classes, to_markdown
from ensemble.report.render.thumbnail import overlay, thumbnail

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
MOST_DISAGREEMENTS = 500
Thumbnails = dict[str, Markup]  # by image


def write_reports(
    paths: Sequence[Path],
    report: Report,
    sources: Mapping[str, Path],
    images: Path | None,
    most_wrong: int,
    runs: Path | None = None,
) -> None:
    """Write `report` to each of `paths`, as a page, as JSON or as Markdown by its suffix; all of them or none.

    Args:
        paths: of the files, ending in .html, .json or .md.
        report: the contents.
        sources: the files that were evaluated, by label.
        images: folder of the images, or of `info.csv` and `images/`, for thumbnails; None for names alone.
        most_wrong: number of wrong predictions to list.
        runs: folder of the heads' runs, for maps over thumbnails; None for none.

    Raises:
        InputError: a listed image is not in `images`.
    """
    labels = {label: printable(path) for label, path in sources.items()}
    texts = []
    for path in paths:
        if path.suffix == ".html":
            texts.append(render_report(report, labels, images, most_wrong, runs))
        elif path.suffix == ".json":
            texts.append(json.dumps(to_json(report), indent=2, ensure_ascii=False) + "\n")
        else:
            texts.append(to_markdown(report, labels))
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)


def render_report(
    report: Report,
    sources: Mapping[str, str],
    images: Path | None = None,
    most_wrong: int = 300,
    runs: Path | None = None,
) -> str:
    """Render the HTML page; arguments and errors as those of `write_reports`."""
    listed = report.wrong[:most_wrong]
    sample = [] if images is None else sample_predictions(report.evaluation)
    paths, thumbnails, unreadable = _thumbnails([*listed, *sample], images)
    maps: dict[tuple[str, str], Markup] = {}
    if runs is not None and thumbnails:
        readable = [each for each in listed if each.image in thumbnails]
        found = wrong_maps(runs, report.evaluation, readable, [paths[each.image] for each in readable])
        maps = {key: thumbnail(overlay(*map_), f"map of {key[1]}, {key[0]}") for key, map_ in found.items()}
    return render_page(
        TEMPLATE,
        title="Evaluation",
        lead=report.costliest,
        notes=[*report.notes, *absent_classes(JOINT, report.scores[JOINT]), *unreadable],
        report=report,
        tables=tables,
        plots=plots,
        sources=sources,
        tiles=_tiles(report),
        hardest=_hardest(report),
        training=[_training(run) for run in report.runs],
        listed=[_listed(each) for each in listed],
        sample=sample,
        thumbnails=thumbnails,
        maps=maps,
        has_images=images is not None,
        class_choices=[f"{task}: {name}" for task, names in report.evaluation.tasks.items() for name in names],
        most_disagreements=MOST_DISAGREEMENTS,
    )


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """The main figures at the top of the page: value, label and detail of each."""
    joint, people = report.scores[JOINT], report.evaluation.people
    tiles = [
        (f"{joint[key]:.3f}", f"joint {name}", f"95 %: {tables.interval_text(*joint[f'{key}_interval'])}")
        for key, name in (("macro_f1", "macro F1"), ("accuracy", "accuracy"))
    ]
    classes, absent = len(joint["classes"]), len(joint["absent_classes"])
    if absent:
        detail = f"of the {classes - absent} that have images; joint macro F1 counts {absent} more as 0"
        tiles.insert(1, (f"{joint['macro_f1_present']:.3f}", "mean F1 of joint classes", detail))
    detail = "" if people is None else f"of {len(np.unique(people)):,} people"
    return [*tiles, (f"{joint['count']:,}", f"images, {classes} joint classes", detail)]


def _hardest(report: Report) -> list[str]:
    """A sentence for each part on the joint class with its highest error rate."""
    groups = report.groups[max(report.groups)]
    worst = {part: hardest(groups, part) for part in report.scores}
    return [
        f"{part} fails most for {group.name}: {100 * group.errors[part]:.0f} % of {group.count:,} images."
        for part, group in worst.items()
        if group is not None
    ]


def _training(run: TrainingRun) -> dict[str, Any]:
    """Curves of a run, and its facts by label."""
    reached = ", ".join(f"{key} {value:.3f}" for key, value in run.best.items() if key != "epoch")
    minutes = None if run.minutes is None else f"{run.minutes:g} for {len(run.history['epoch'])} epochs"
    facts = {"validation at the best epoch": reached, "minutes": minutes}
    for name, values in (("machine", run.machine), ("versions", run.versions)):
        facts[name] = ", ".join(f"{key} {value}" for key, value in values.items())
    recorded = {name: text or "not recorded" for name, text in facts.items()}
    return {"name": run.name, "plot": plots.history_plot(run, reached), "facts": recorded, "config": run.config}


def _thumbnails(
    predictions: Sequence[ImageResult], images: Path | None
) -> tuple[dict[str, str], Thumbnails, list[str]]:
    """Paths and thumbnails by image, and a note on each image that cannot be decoded."""
    named = {each.image: each for each in predictions}
    if images is None or not named:
        return {}, {}, []
    folder = images / IMAGES if (images / LISTING).is_file() else images
    paths, thumbnails, notes = dict(zip(named, image_paths(folder, list(named)), strict=True)), {}, []
    for name, each in named.items():
        try:
            thumbnails[name] = thumbnail(decode(Path(paths[name])), f"{name}: {each.predicted}, truth {each.truth}")
        except InputError as error:
            notes.append(f"No thumbnail: {error}.")
    return paths, thumbnails, notes


def _listed(prediction: ImageResult) -> dict[str, Any]:
    """One listed image, with what it is filtered by as JSON."""
    heads = [each.task for each in prediction.tasks if each.wrong]
    truth = [f"{each.task}: {each.truth}" for each in prediction.tasks]
    return {"prediction": prediction, "heads": json.dumps(heads), "truth": json.dumps(truth)}
