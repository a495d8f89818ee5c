"""The page of `python -m data.explore`: its facts as tables and plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from data.explore.analysis import POWERS
from data.explore.duplicates import NEAR
from data.runtime.html import plots
from data.runtime.html import render as pages
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
    """Write the facts of `data.explore.explore` as one HTML file, whole or not at all."""
    rarest = facts["joint"][0] if facts["joint"] else None
    lead = rarest and (
        f"Rarest of {len(facts['joint'])} joint classes: {rarest['name']}, {rarest['count']:,} images "
        f"({100 * rarest['share']:.2f} %)."
    )
    pages.write_page(
        path,
        TEMPLATE,
        title="The data before training",
        lead=lead or "",
        tiles=[
            (f"{facts['photographs']:,}", "photographs", ""),
            (f"{facts['people']:,}", "people", ""),
            (f"{len(facts['unreadable']):,}", "files that cannot be read", ""),
            (f"{len(facts['split']['people_in_two_folds']):,}", "people in two folds", ""),
        ],
        facts=facts,
        labels=[
            (name, bars_plot(name, classes), class_table(name, classes), facts["unlabelled"][name])
            for name, classes in facts["labels"].items()
            if classes
        ],
        joint=Table("Joint classes, the rarest first", ["class", "photographs", "share"], _joint_rows(facts)),
        ages=ages_plot(facts["ages"]) if facts["ages"] else None,
        per_person=_counts("Images of each person", "photographs", "people", "images_per_person", facts),
        images=image_terms(facts["pictures"]),
        formats=_counts("File formats", "format and mode", "photographs", "formats", facts["pictures"]),
        sizes=_counts("Sizes", "width x height", "photographs", "sizes", facts["pictures"]),
        near=NEAR,
        duplicates=[
            (facts["duplicates"][kind]["pairs"], _pairs(name, facts["duplicates"][kind]["examples"]))
            for kind, name in DUPLICATES.items()
            if facts["against"] or not kind.endswith("between_sets")
        ],
        folds=Table(
            "Folds as training makes them: by person, stratified",
            ["fold", "photographs", "people"],
            [cells([str(f["fold"]), f["photographs"], f["people"]]) for f in facts["split"]["folds"]],
        ),
        twins=(
            facts["split"]["pairs_in_two_folds"],
            _pairs("One image, in two folds", facts["split"]["images_in_two_folds"]),
        ),
    )


def class_table(label: str, classes: Sequence[Facts]) -> Table:
    """Each class's count, and what class weights and a sampler of several powers would make of it."""
    powers = [f"{power:g}" for power in POWERS]
    columns = ["class", "photographs", "share"]
    columns += [f"weight, power {power}" for power in powers] + [f"drawn, power {power}" for power in powers]
    rows = [
        [
            text(each["name"]),
            count(each["count"]),
            percent(each["share"]),
            *(number(each["class_weight"][power], 2) for power in powers),
            *(percent(each["drawn_share"][power]) for power in powers),
        ]
        for each in classes
    ]
    return Table(f"Classes of {label}", columns, rows)


def ages_plot(ages: Facts) -> Markup:
    """People by age, a line of steps for each group."""
    figure, axes = plots.new_plot(7, 2.8)
    for colour, (name, people) in zip(plots.SERIES, ages["people"].items(), strict=False):
        axes.stairs(people, ages["edges"], label=name, linewidth=1.6, color=colour)
    axes.set_xlabel("age in years")
    axes.set_ylabel("people")
    plots.legend(axes)
    told = ", ".join(f"{sum(people)} {name}" for name, people in ages["people"].items())
    return plots.svg(figure, "ages", f"Histogram of the ages of {told}")


def bars_plot(label: str, classes: Sequence[Facts]) -> Markup:
    """Images of each class as bars, their shares written on them."""
    figure, axes = plots.new_plot(6, 0.6 + 0.34 * len(classes))
    places = np.arange(len(classes))
    bars = axes.barh(places, [each["count"] for each in classes], height=0.7, color=plots.SERIES[0])
    shares = [f"{100 * each['share']:.1f} %" for each in classes]
    axes.bar_label(bars, shares, padding=3, fontsize=8, color=plots.INK)
    axes.set_yticks(places, [each["name"] for each in classes], parse_math=False)
    axes.set_xlabel("photographs")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    told = ", ".join(f"{each['name']} {each['count']}" for each in classes)
    return plots.svg(figure, f"bars {label}", f"Images of each class of {label}: {told}")


def image_terms(images: Facts) -> list[tuple[str, str]]:
    """Sizes and levels of the images, as pairs of a term and what is known of it."""
    if not images:
        return []
    spans = {name: images[name.lower()] for name in ("Width", "Height")}
    terms = [
        (name, f"{span['least']} to {span['most']} pixels, median {span['median']:g}")
        for name, span in spans.items()
    ]
    levels = {"Mean (red, green, blue; of 1)": images["mean"], "Standard deviation": images["std"]}
    terms += [(name, ", ".join(f"{value:.4f}" for value in values)) for name, values in levels.items()]
    return [*terms, ("Files", f"{images['megabytes']:.1f} MB")]


def _joint_rows(facts: Facts) -> list[Any]:
    return [[text(e["name"]), count(e["count"]), percent(e["share"], 2)] for e in facts["joint"]]


def _counts(caption: str, what: str, of: str, key: str, facts: Facts) -> Table:
    rows = [cells([str(name), int(each)]) for name, each in facts.get(key, {}).items()]
    return Table(caption, [what, of], rows)


def _pairs(caption: str, pairs: Sequence[Sequence[str]]) -> Table:
    return Table(caption, ["one", "other"], [cells(pair) for pair in pairs])
