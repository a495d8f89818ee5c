"""A look at the data before any training: who is rare, who is there twice, what cannot be read.

python -m data.explore --data path/to/train --against path/to/eval
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.annotations.labels_csv import OLDEST
from data.annotations.table import OWN_COLUMNS, read_table
from data.explore.analysis import (
    age_facts,
    class_column,
    class_facts,
    counts_per_person,
    duplicate_facts,
    duplicate_pairs,
    fold_facts,
    image_facts,
    joint_facts,
)
from data.explore.survey import ImageInfo, inspect_images
from data.images.find import list_image_paths
from data.runtime.errors import InputError, add_debug_option, did_you_mean, raise_all, run_script
from data.runtime.file_names import check_writable_names
from data.runtime.files import write_text

LABELS = ("mask", "gender", "age")
AGE_BORDERS = (30.0, 60.0)
# As in configs/: training's folds, whatever is looked at.
FOLDS = 10
STRATA: Mapping[str, Sequence[float]] = {"gender": (), "age": AGE_BORDERS}


def explore(
    table: pd.DataFrame,
    labels: Sequence[str],
    borders: dict[str, list[float]],
    folds: int,
    against: Sequence[str] = (),
    processes: int | None = None,
) -> dict[str, Any]:
    """All facts of a table (see `data.annotations.table.read_table`), ready for JSON.

    Args:
        table: one row per image.
        labels: columns that are counted, in the joint code's order; those the table lacks are left out.
        borders: where a column of numbers is cut into classes.
        folds: into how many the people are split.
        against: paths of another set, such as the images to be answered, searched for duplicates; those
            that the table has as well are counted and left out.
        processes: that decode; None for one a core.
    """
    own = table["path"].tolist()
    other = other_images(own, against)
    found = inspect_images([*own, *other], processes)
    seen = {place: each for place, each in enumerate(found) if isinstance(each, ImageInfo)}
    people = [*table["person"], *[None] * len(other)]
    pairs = duplicate_pairs(list(seen.values()), [people[place] for place in seen])
    places = np.array(list(seen), dtype=np.int64)  # of what can be read, among all: the table's rows come first
    classes = {name: class_column(table, name, borders) for name in labels if name in table}
    return {
        "sources": sorted(table["source"].unique()),
        "photographs": len(table),
        "people": int(table["person"].nunique()),
        "against": len(other),
        "against_in_data": len(against) - len(other),
        "unreadable": [each for each in found if isinstance(each, str)],
        "labels": {name: class_facts(each) for name, each in classes.items()},
        "unlabelled": {name: int(each.isna().sum()) for name, each in classes.items()},
        "joint": joint_facts(classes) if len(classes) > 1 else [],
        "ages": age_facts(table),
        "images_per_person": counts_per_person(table),
        "pictures": image_facts([each for place, each in seen.items() if place < len(own)]),
        "duplicates": duplicate_facts(pairs, [[*own, *other][place] for place in seen]),
        "split": fold_facts(table, folds, STRATA, places[pairs["across_people"]]),
    }


def other_images(own: Sequence[str], against: Sequence[str]) -> list[str]:
    """Absolute paths of those of `against` that are none of `own`, whatever links lead to their folders."""
    real_folder = lru_cache(maxsize=None)(os.path.realpath)

    def place(path: str) -> tuple[str, str]:
        folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
        return real_folder(folder), name

    known = set(map(place, own))
    return [os.path.abspath(path) for path in against if place(path) not in known]  # noqa: PTH100


def check_class_columns(labels: Sequence[str], columns: Sequence[str]) -> None:
    """Raise an InputError that tells all `labels` that the table has no column for."""
    problems = [
        f"{label}: no such column{did_you_mean(label, columns)}" for label in labels if label not in columns
    ]
    raise_all(f"--labels: expected columns of the data, which are {', '.join(columns)}", problems)


def summary(facts: dict[str, Any]) -> str:
    """The facts that matter most, as lines for the terminal."""
    lines = [f"{facts['photographs']} images of {facts['people']} people"]
    for label, classes in facts["labels"].items():
        shares = ", ".join(f"{each['name']} {each['count']} ({each['share']:.1%})" for each in classes)
        lines.append(f"{label}: {shares or 'no image has one'}")
    if facts["joint"]:
        rare = facts["joint"][0]
        lines.append(f"rarest joint class: {rare['name']}, {rare['count']} images ({rare['share']:.2%})")
    doubles = facts["duplicates"]
    lines.append(
        f"the same image: {doubles['across_people']['pairs']} pairs across people, "
        f"{doubles['between_sets']['pairs']} between the data and --against; "
        f"nearly the same: {doubles['near_across_people']['pairs']} and {doubles['near_between_sets']['pairs']}"
    )
    split = facts["split"]
    lines.append(
        f"people in two folds: {len(split['people_in_two_folds'])}; "
        f"images in two folds under other names: {split['pairs_in_two_folds']}"
    )
    if facts["against_in_data"]:
        lines.append(f"of --against, {facts['against_in_data']} are in --data as well and were left out")
    lines.append(f"unreadable: {len(facts['unreadable'])}")
    lines += [f"  {problem}" for problem in facts["unreadable"][:20]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, look, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m data.explore", description="Look at the data first.")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="as for train_task.py; may be repeated",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="another set, such as eval/, as for combine.py: which of its images are in the data?",
    )
    parser.add_argument("--out", type=Path, default=Path("explore.html"), metavar="FILE", help="the page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the same facts for programs")
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="COLUMN",
        help=f"columns to count (default: those of {', '.join(LABELS)} that are there)",
    )
    parser.add_argument("--ages", type=float, nargs="+", default=list(AGE_BORDERS), metavar="YEARS")
    parser.add_argument("--folds", type=int, default=FOLDS, help="as a head's split (default: %(default)s)")
    add_debug_option(parser)
    args = parser.parse_args(arguments)
    if not all(0 < low < high < inf for low, high in pairwise([*args.ages, OLDEST + 1])):
        raise InputError(f"--ages {args.ages}: expected years from 1 to {OLDEST}, rising")
    table = read_table(args.data)
    check_writable_names(", ".join(map(str, args.data)), table["path"].tolist())
    check_class_columns(args.labels or [], [str(name) for name in table if name not in OWN_COLUMNS])
    other = list_image_paths(args.against) if args.against else []
    facts = explore(table, args.labels or LABELS, {"age": args.ages}, args.folds, other)

    from data.explore.page import write_page

    if args.json:
        write_text(args.json, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    write_page(args.out, facts)
    print(summary(facts))
    print(f"page: {args.out}")


if __name__ == "__main__":
    run_script(main)
