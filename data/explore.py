"""A look at the data before any training: who is rare, who is there twice, what cannot be read.

python -m data.explore --data path/to/train --against path/to/eval
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.errors import InputError, run_script
from data.explore_facts import (
    age_facts,
    class_column,
    class_facts,
    counts_per_person,
    duplicate_facts,
    fold_facts,
    joint_facts,
    picture_facts,
)
from data.files import write_text
from data.manifest import read_table
from data.pictures import pictures_below
from data.survey import Seen, survey

LABELS = ("mask", "gender", "age")
AGE_BORDERS = (30.0, 60.0)


def explore(
    table: pd.DataFrame,
    labels: Sequence[str],
    borders: dict[str, list[float]],
    folds: int,
    against: Sequence[str] = (),
    processes: int | None = None,
) -> dict[str, Any]:
    """All facts of a table (see `data.manifest.read_table`), ready for JSON.

    Args:
        table: one row per photograph.
        labels: columns that are counted, in the joint code's order; those the table lacks are left out.
        borders: where a column of numbers is cut into classes.
        folds: into how many the people are split.
        against: paths of another set, such as the photographs to be answered, searched for duplicates.
        processes: that decode; None for one a core.
    """
    own = table["path"].tolist()
    paths = [*own, *against]
    found = survey(paths, processes)
    readable = [(path, each) for path, each in zip(paths, found, strict=True) if isinstance(each, Seen)]
    person_of = dict(zip(own, table["person"], strict=True))
    sets = ["against" if path not in person_of else "data" for path, _ in readable]
    people = [person_of.get(path, path) for path, _ in readable]
    pictures = [each for _, each in readable]
    duplicates = duplicate_facts([path for path, _ in readable], pictures, people, sets)
    classes = {name: class_column(table, name, borders) for name in labels if name in table}
    strata: dict[str, Sequence[float]] = {
        name: borders.get(name, []) for name in ("gender", "age") if name in classes
    }
    return {
        "sources": sorted(table["source"].unique()),
        "photographs": len(table),
        "people": int(table["person"].nunique()),
        "against": len(against),
        "unreadable": [each for each in found if isinstance(each, str)],
        "labels": {name: class_facts(each) for name, each in classes.items()},
        "unlabelled": {name: int(each.isna().sum()) for name, each in classes.items()},
        "joint": joint_facts(classes) if len(classes) > 1 else [],
        "ages": age_facts(table),
        "photographs_per_person": counts_per_person(table),
        "pictures": picture_facts([each for each, of in zip(pictures, sets, strict=True) if of == "data"]),
        "duplicates": duplicates,
        "split": fold_facts(table, folds, strata, duplicates["across_people"]["examples"]),
    }


def told(facts: dict[str, Any]) -> str:
    """The facts that matter most, as lines for the terminal."""
    lines = [f"{facts['photographs']} photographs of {facts['people']} people"]
    for label, classes in facts["labels"].items():
        shares = ", ".join(f"{each['name']} {each['count']} ({each['share']:.1%})" for each in classes)
        lines.append(f"{label}: {shares}")
    if facts["joint"]:
        rare = facts["joint"][0]
        lines.append(f"rarest joint class: {rare['name']}, {rare['count']} photographs ({rare['share']:.2%})")
    doubles = facts["duplicates"]
    lines.append(
        f"the same picture: {doubles['across_people']['pairs']} pairs across people, "
        f"{doubles['between_sets']['pairs']} between the data and --against; "
        f"nearly the same: {doubles['near_across_people']['pairs']} and {doubles['near_between_sets']['pairs']}"
    )
    split = facts["split"]
    lines.append(
        f"people in two folds: {len(split['people_in_two_folds'])}; "
        f"pictures in two folds under other names: {len(split['pictures_in_two_folds'])}"
    )
    lines.append(f"unreadable: {len(facts['unreadable'])}")
    lines += [f"  {problem}" for problem in facts["unreadable"][:20]]
    return "\n".join(lines)


def pictures_in(folder: Path) -> list[str]:
    """Paths of all pictures in `folder`, or in the folder `images` there; InputError if there are none."""
    inside = folder / "images" if (folder / "images").is_dir() else folder
    paths = [str(inside / name) for name in pictures_below(inside)]
    if not paths:
        raise InputError(f"{inside}: found no pictures, expected a folder of them, or one with images/")
    return paths


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
        "--against", type=Path, metavar="DIR", help="another set, such as eval/: who is in both?"
    )
    parser.add_argument("--out", type=Path, default=Path("explore.html"), metavar="FILE", help="the page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the same facts for programs")
    parser.add_argument("--labels", nargs="+", default=list(LABELS), metavar="COLUMN")
    parser.add_argument("--ages", type=float, nargs="+", default=list(AGE_BORDERS), metavar="YEARS")
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args(arguments)
    table = read_table(args.data)
    other = pictures_in(args.against) if args.against else []
    facts = explore(table, args.labels, {"age": args.ages}, args.folds, other)

    from data.explore_page import write_page

    if args.json:
        write_text(args.json, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    write_page(args.out, facts)
    print(told(facts))
    print(f"page: {args.out}")


if __name__ == "__main__":
    run_script(main)
