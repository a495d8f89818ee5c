"""Recall of data.audit: flip labels, train folds, audit them, count the flips at the top of the list.

python -m bench.audit flip --data DIR --out RUNS/flips.csv
for k in 0 1 2; do for task in gender mask age; do
    python train_task.py --task $task --fold $k --data DIR --runs RUNS \
        --set split.folds=3 --set corrections=RUNS/flips.csv
done; done
python -m data.audit --runs RUNS --out RUNS/suspects.csv --all
python -m bench.audit score --flips RUNS/flips.csv --suspects RUNS/suspects.csv

The flips are rows of a corrections file, so no image is copied or renamed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.runtime.errors import InputError, add_debug_option, raise_all, run_script, whole_number_from
from data.runtime.files import read_csv, write_text

if TYPE_CHECKING:
    import pandas as pd  # functions import it late, for --help

SHARE = 0.02  # of the people (gender, age) or images (mask) whose label is flipped
TOP = 0.04  # of the list, in which the flips are counted
AGES = {0: (18, 29), 1: (30, 59), 2: (60, 75)}  # years of each age class from which a wrong age is drawn
BORDERS = (30, 60)


def draw_flips(table: "pd.DataFrame", seed: int) -> Iterator[tuple[str, str, str, str]]:
    """Draw rows of a corrections file (person, column, value, shot); other people for each label."""
    from data.masked import CLASSES  # late: it imports OpenCV

    rng = np.random.default_rng(seed)
    people = table.drop_duplicates("person").reset_index(drop=True)
    flipped = round(SHARE * len(people))
    if flipped < 1 or table["shot"].isna().any():
        raise InputError(f"expected the challenge's folders with at least {round(1 / SHARE)} people")
    order = rng.permutation(len(people))
    for _, row in people.iloc[order[:flipped]].iterrows():
        yield row["person"], "gender", "female" if row["gender"] == "male" else "male", ""
    for _, row in people.iloc[order[flipped : 2 * flipped]].iterrows():
        right = int(np.searchsorted(BORDERS, row["age"], side="right"))
        low, high = AGES[int(rng.choice([other for other in AGES if other != right]))]
        yield row["person"], "age", str(rng.integers(low, high + 1)), ""
    for _, row in table.iloc[rng.permutation(len(table))[: round(SHARE * len(table))]].iterrows():
        other = str(rng.choice([mask for mask in CLASSES if mask != row["mask"]]))
        yield row["person"], "mask", other, row["shot"]


def recall(flips: "pd.DataFrame", suspects: "pd.DataFrame", column: str) -> tuple[int, int, int, int]:
    """Count (flips in the top of the list, all flips, rows in the top, rows in the list) for one label."""
    ranked = suspects[suspects["column"] == column]
    top = ranked[: round(TOP * len(ranked))]
    wanted = {tuple(row) for row in flips.loc[flips["column"] == column, ["person", "shot"]].to_numpy()}
    listed = set(zip(top["person"], top["shot"].fillna(""), strict=True))
    return len(wanted & listed), len(wanted), len(top), len(ranked)


def _read_table(path: Path) -> "pd.DataFrame":
    """Read a CSV file of labels as text."""
    import pandas as pd

    columns, rows, problems = read_csv(path, ["person", "column", "shot"])
    raise_all(f"{path}: expected labels, one per row", problems)
    return pd.DataFrame([values for _, values in rows], columns=columns)


def flip(args: argparse.Namespace) -> None:
    """Write flipped labels as a corrections file."""
    import pandas as pd

    from data.annotations.table import read_table

    rows = list(draw_flips(read_table([args.data]), args.seed))
    table = pd.DataFrame(rows, columns=["person", "column", "value", "shot"])
    write_text(args.out, table.to_csv(index=False))
    print(f"{args.out}: {len(rows)} labels flipped")


def score(args: argparse.Namespace) -> None:
    """Print how many flips are in the top of the list."""
    flips, suspects = _read_table(args.flips), _read_table(args.suspects)
    for column in flips["column"].unique():
        found, of, top, length = recall(flips, suspects, column)
        print(f"{column}: {found} of {of} ({found / of:.0%}) in the first {top} of {length} ({TOP:.0%})")


def main() -> None:
    """Read the command line and run its command."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description="Recall of data.audit.")
    verbs = parser.add_subparsers(required=True)
    flips = verbs.add_parser("flip", help="flip labels, as a corrections file")
    flips.add_argument("--data", type=Path, required=True, metavar="DIR")
    flips.add_argument("--out", type=Path, required=True, metavar="FILE")
    flips.add_argument("--seed", type=whole_number_from(0), default=0)
    flips.set_defaults(call=flip)
    scores = verbs.add_parser("score", help="count the flips that the audit found")
    scores.add_argument("--flips", type=Path, required=True, metavar="FILE")
    scores.add_argument("--suspects", type=Path, required=True, metavar="FILE")
    scores.set_defaults(call=score)
    add_debug_option(parser, flips, scores)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    run_script(main)
