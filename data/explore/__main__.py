"""Explore a data set before training: rare classes, ages, image sizes, duplicates, unreadable files and folds.

python -m data.explore --data path/to/train --against path/to/eval
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

from data.runtime.errors import InputError, add_debug_option, did_you_mean, list_problems, raise_all, run_script
from data.runtime.files import check_writable_names, write_text

LABELS = ("mask", "gender", "age")


def summary(facts: dict[str, Any]) -> str:
    """Format the most important facts as lines for the terminal."""
    lines = [f"{facts['photographs']} images of {facts['people']} people"]
    for label, classes in facts["labels"].items():
        shares = ", ".join(f"{each['name']} {each['count']} ({each['share']:.1%})" for each in classes)
        lines.append(f"{label}: {shares or 'no image has one'}")
    for rarest in facts["joint"][:1]:
        lines.append(f"rarest joint class: {rarest['name']}, {rarest['count']} images ({rarest['share']:.2%})")
    pairs = {kind: found["pairs"] for kind, found in facts["duplicates"].items()}
    lines += [
        f"the same image: {pairs['across_people']} pairs across people, "
        f"{pairs['between_sets']} between the data and --against; "
        f"nearly the same: {pairs['near_across_people']} and {pairs['near_between_sets']}",
        f"the same image of two people in two folds: {facts['split']['pairs_in_two_folds']} pairs",
    ]
    if facts["against_in_data"]:
        lines.append(f"of --against, {facts['against_in_data']} are in --data as well and were left out")
    unreadable = facts["unreadable"]
    return list_problems("\n".join([*lines, f"unreadable: {len(unreadable)}"]), unreadable)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compute the facts and write them."""
    parser = argparse.ArgumentParser(prog="python -m data.explore", description=(__doc__ or "").split("\n")[0])
    add = partial(parser.add_argument, metavar="DIR", type=Path)
    add("--data", action="append", required=True, help="as train_task.py's; may be repeated")
    add("--against", help="another set, as combine.py's --data, such as eval/: which of its images are in the data?")
    add("--out", default=Path("explore.html"), metavar="FILE", help="the page (default: %(default)s)")
    add("--json", metavar="FILE", help="the same facts for programs")
    add("--labels", nargs="+", type=str, metavar="COLUMN", help=f"to count (default: those of {', '.join(LABELS)})")
    add("--ages", nargs="+", type=float, default=[30.0, 60.0], metavar="YEARS", help="borders of the age classes")
    add("--folds", type=int, default=10, metavar="NUMBER", help="as a head's split (default: %(default)s)")
    add_debug_option(parser)
    args = parser.parse_args(arguments)

    # Imported here so that --help is quick.
    from data.annotations.table import OLDEST, OWN_COLUMNS, read_table
    from data.explore.analysis import explore
    from data.explore.page import write_page
    from data.images.find import list_image_paths

    if not all(0 < low < high < inf for low, high in pairwise([*args.ages, OLDEST + 1])):
        raise InputError(f"--ages {args.ages}: expected years from 1 to {OLDEST}, rising")
    table = read_table(args.data)
    check_writable_names(", ".join(map(str, args.data)), table["path"].tolist())
    columns = [str(name) for name in table if name not in OWN_COLUMNS]
    unknown = [label for label in args.labels or [] if label not in columns]
    problems = [f"{label}: no such column{did_you_mean(label, columns)}" for label in unknown]
    raise_all(f"--labels: expected columns of the data, which are {', '.join(columns)}", problems)
    other = list_image_paths(args.against) if args.against else []
    facts = explore(table, args.labels or LABELS, args.ages, args.folds, other)
    if args.json:
        write_text(args.json, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    write_page(args.out, facts)
    print(summary(facts))
    print(f"page: {args.out}")


if __name__ == "__main__":
    run_script(main)
