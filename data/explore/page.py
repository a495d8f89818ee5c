"""The page of `python -m data.explore`: its facts as tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from data.explore.analysis import POWERS
from data.explore.images import NEAR
from data.runtime.files import write_text
from data.runtime.html import plots
from data.runtime.html.render import render_page
from data.runtime.html.tables import Table, cells, count, number, percent, text

TEMPLATE = Path(__file__).parent / "templates" / "explore.html"
DUPLICATES = {
    "same_person": "The same image twice of one person",
    "across_people": "The same image of two people",
    "between_sets": "The same image in the data and in the other set",
    "near_across_people": "Nearly the same image of two people",
    "near_between_sets": "Nearly the same image in the data and in the other set",
}

Facts = Mapping[str, Any]


def write_page(path: Path, facts: Facts) -> None:
    """Write the facts of `data.explore.analysis.explore` as one HTML file, atomically."""
    joint, images, split = facts["joint"], facts["pictures"], facts["split"]
    lead = ""
    if joint:
        share = f"{joint[0]['count']:,} images ({100 * joint[0]['share']:.2f} %)"
        lead = f"Rarest of {len(joint)} joint classes: {joint[0]['name']}, {share}."
    page = render_page(
        TEMPLATE,
        title="The data before training",
        lead=lead,
        facts=facts,
        labels=[
            (name, bars_plot(name, classes), class_table(name, classes), facts["unlabelled"][name])
            for name, classes in facts["labels"].items()
            if classes
        ],
        joint=Table(
            "Joint classes, the rarest first",
            ["class", "images", "share"],
            [[text(each["name"]), count(each["count"]), percent(each["share"], 2)] for each in joint],
        ),
        ages=ages_plot(facts["ages"]) if facts["ages"] else None,
        per_person=_counts("Images of each person", "images", "people", facts["photographs_per_person"]),
        formats=_counts("File formats", "format and mode", "images", images.get("formats", {})),
        sizes=_counts("Sizes", "width x height", "images", images.get("sizes", {})),
        near=NEAR,
        duplicates=[
            (facts["duplicates"][kind]["pairs"], _pairs(caption, facts["duplicates"][kind]["examples"]))
            for kind, caption in DUPLICATES.items()
            if facts["against"] or not kind.endswith("between_sets")
        ],
        folds=Table(
            "Folds as training makes them: by person, stratified",
            ["fold", "images", "people"],
            [cells([str(each["fold"]), each["photographs"], each["people"]]) for each in split["folds"]],
        ),
        apart=(
            split["pairs_in_two_folds"],
            _pairs("The same image of two people, in two folds", split["pictures_in_two_folds"]),
        ),
    )
    write_text(path, page)


def class_table(label: str, classes: Sequence[Facts]) -> Table:
    """Make the table of each class's count, and the class weights and sampler shares of several powers."""
    powers = [f"{power:g}" for power in POWERS]
    columns = ["class", "images", "share"]
    columns += [f"weight, power {power}" for power in powers] + [f"drawn, power {power}" for power in powers]
    rows = [
        [text(each["name"]), count(each["count"]), percent(each["share"])]
        + [number(each["class_weight"][power], 2) for power in powers]
        + [percent(each["drawn_share"][power]) for power in powers]
        for each in classes
    ]
    return Table(f"Classes of {label}", columns, rows)


def ages_plot(ages: Facts) -> Markup:
    """Draw the number of people by age, a line of steps for each group."""
    figure, axes = plots.new_plot(7, 2.8)
    for colour, (name, people) in zip(plots.SERIES, ages["people"].items(), strict=False):
        axes.stairs(people, ages["edges"], label=name, linewidth=1.6, color=colour)
    axes.set_xlabel("age in years")
    axes.set_ylabel("people")
    plots.legend(axes)
    sums = ", ".join(f"{sum(people)} {name}" for name, people in ages["people"].items())
    return plots.svg(figure, "ages", f"Histogram of the ages of {sums}")


def bars_plot(label: str, classes: Sequence[Facts]) -> Markup:
    """Draw the images of each class as bars with their shares."""
    figure, axes = plots.new_plot(6, 0.6 + 0.34 * len(classes))
    places = np.arange(len(classes))
    bars = axes.barh(places, [each["count"] for each in classes], height=0.7, color=plots.SERIES[0])
    shares = [f"{100 * each['share']:.1f} %" for each in classes]
    axes.bar_label(bars, shares, padding=3, fontsize=8, color=plots.INK)
    axes.set_yticks(places, [each["name"] for each in classes], parse_math=False)
    axes.set_xlabel("images")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    counts = ", ".join(f"{each['name']} {each['count']}" for each in classes)
    return plots.svg(figure, f"bars {label}", f"Images of each class of {label}: {counts}")


def _counts(caption: str, what: str, of: str, counts: Mapping[str, int]) -> Table:
    return Table(caption, [what, of], [cells([name, each]) for name, each in counts.items()])


def _pairs(caption: str, pairs: Sequence[Sequence[str]]) -> Table:
    return Table(caption, ["one", "other"], [cells(pair) for pair in pairs])
