"""How many labels that were made wrong on purpose an audit finds: flips as corrections, folds, audit, recall.

python -m bench.audit flip --data DIR --out RUNS/flips.csv
for k in 0 1 2; do for task in gender mask age; do
    python train_task.py --task $task --fold $k --data DIR --runs RUNS \
        --set split.folds=3 --set corrections=RUNS/flips.csv
done; done
python -m data.audit --runs RUNS --out RUNS/suspects.csv --all
python -m bench.audit score --flips RUNS/flips.csv --suspects RUNS/suspects.csv

The flips are rows of a corrections file, so that no image is copied or renamed.
"""

import argparse
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from data.annotations.labels_csv import read_csv
from data.annotations.table import person_name, read_table
from data.runtime.errors import InputError, add_debug_option, raise_all, run_script, whole_number_from
from data.runtime.files import write_text

SHARE = 0.02  # of the people (gender, age) or of the images (mask) whose label is made wrong
TOP = 0.04  # of the list, in which they should stand
AGES = {0: (18, 29), 1: (30, 59), 2: (60, 75)}  # years of each age class that a wrong age is drawn from
BORDERS = (30, 60)
MASKS = ("wear", "incorrect", "normal")
COLUMNS = ["person", "column", "value", "shot"]


def flips(table: pd.DataFrame, seed: int) -> Iterator[list[str]]:
    """Rows of a corrections file that make labels wrong: other people and images for each label."""
    rng = np.random.default_rng(seed)
    people = table.drop_duplicates("person").reset_index(drop=True)
    wrong = round(SHARE * len(people))
    if wrong < 1 or table["shot"].isna().any():
        raise InputError(f"expected the challenge's folders with at least {round(1 / SHARE)} people")
    chosen = rng.permutation(len(people))
    for _, row in people.iloc[chosen[:wrong]].iterrows():
        yield [person_name(row["person"]), "gender", "female" if row["gender"] == "male" else "male", ""]
    for _, row in people.iloc[chosen[wrong : 2 * wrong]].iterrows():
        its = int(np.searchsorted(BORDERS, row["age"], side="right"))
        low, high = AGES[int(rng.choice([other for other in AGES if other != its]))]
        yield [person_name(row["person"]), "age", str(rng.integers(low, high + 1)), ""]
    for _, row in table.iloc[rng.permutation(len(table))[: round(SHARE * len(table))]].iterrows():
        other = str(rng.choice([mask for mask in MASKS if mask != row["mask"]]))
        yield [person_name(row["person"]), "mask", other, row["shot"]]


def recall(made: pd.DataFrame, suspects: pd.DataFrame, column: str) -> tuple[int, int, int, int]:
    """(found in the top of the list, all flips, length of the top, length of the list) of one label."""
    ranked = suspects[suspects["column"] == column]
    top = round(TOP * len(ranked))
    wanted = {tuple(row) for row in made.loc[made["column"] == column, ["person", "shot"]].to_numpy()}
    people = ranked["person"].map(person_name)
    listed = list(zip(people, ranked["shot"].fillna(""), strict=True))[:top]
    return len(wanted & set(listed)), len(wanted), top, len(ranked)


def _table(path: Path) -> pd.DataFrame:
    """A CSV file of labels, as text, through the project's own reader."""
    columns, lines, problems = read_csv(path)
    expected = ("person", "column", "shot")
    missing = [name for name in expected if name not in columns]
    if missing and not problems:
        problems = [f"{path}: columns {', '.join(columns)}, expected {', '.join(missing)} too"]
    raise_all(f"{path}: expected labels, one a row", problems)
    return pd.DataFrame([values for _, values in lines], columns=columns)


def write_flips(args: argparse.Namespace) -> None:
    """Make labels wrong."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = list(flips(read_table([args.data]), args.seed))
    writer.writerows(rows)
    write_text(args.out, text.getvalue())
    print(f"{args.out}: {len(rows)} labels made wrong")


def score(args: argparse.Namespace) -> None:
    """Tell how many of them stand in the top of the list."""
    made, suspects = _table(args.flips), _table(args.suspects)
    for column in dict.fromkeys(made["column"]):
        found, of, top, length = recall(made, suspects, column)
        print(f"{column}: {found} of {of} ({found / of:.0%}) in the first {top} of {length} ({TOP:.0%})")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description="Measure data.audit.")
    verbs = parser.add_subparsers(required=True)
    flip = verbs.add_parser("flip", help="make labels wrong, as a corrections file")
    flip.add_argument("--data", type=Path, required=True, metavar="DIR")
    flip.add_argument("--out", type=Path, required=True, metavar="FILE")
    flip.add_argument("--seed", type=whole_number_from(0), default=0)
    flip.set_defaults(call=write_flips)
    scored = verbs.add_parser("score", help="how many of them the audit found")
    scored.add_argument("--flips", type=Path, required=True, metavar="FILE")
    scored.add_argument("--suspects", type=Path, required=True, metavar="FILE")
    scored.set_defaults(call=score)
    add_debug_option(parser)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    run_script(main)
