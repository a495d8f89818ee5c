"""Put people of a labelled data folder aside, before anything is trained or chosen on them.

python -m bench.holdout --data path/to/portraits --out OUT --by source --rows 500
python -m bench.holdout --data path/to/crops --out OUT --by source --share 0.3333

Writes OUT/rest and OUT/held_out, each with a labels.csv and copies of its list_images: the first to train and
validate on, the second to be scored once (`python -m bench.held_out`).
"""

import argparse
import csv
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.annotations.labels_csv import PATH_COLUMNS, read_csv, read_person
from data.runtime.errors import InputError, add_debug_option, raise_all, run_script, whole_number_from
from data.runtime.file_names import is_outside
from data.runtime.files import write_folder_atomically

LABELS = "labels.csv"


def held_out_rows(people: Sequence[str], values: Sequence[str], least: int | float, seed: int) -> set[int]:
    """Indices of the rows put aside: whole people, drawn at random apart for each of `values`.

    Args:
        people: whose image each row is, [N].
        values: what the rows are drawn apart by, [N].
        least: rows of each value, as a number, or as a share of them below 1.
        seed: of the draw.

    >>> people, sources = ["a", "a", "b", "c", "d"], ["x", "x", "x", "y", "y"]
    >>> sorted(held_out_rows(people, sources, 1, seed=0))
    [0, 1, 3]
    """
    rng = np.random.default_rng(seed)
    person, value = np.asarray(people), np.asarray(values)
    aside: set[str] = set()
    for one in np.unique(value):
        mine = np.unique(person[value == one], return_counts=True)
        wanted = least if least >= 1 else least * (value == one).sum()
        found = 0
        for index in rng.permutation(len(mine[0])):
            if found >= wanted:
                break
            aside.add(str(mine[0][index]))
            found += int(mine[1][index])
    return {row for row, name in enumerate(people) if name in aside}


def list_images(file: Path, column: str, lines: Sequence[tuple[int, Mapping[str, str]]]) -> list[Path]:
    """Where the image of each line of a labels file is: in `images/` beside it, else in its folder.

    Args:
        file: the labels file.
        column: its column of paths.
        lines: number and values of each.

    Raises:
        InputError: some lead outside or are not there; all are told.
    """
    found, problems = [], []
    for line, values in lines:
        name = values[column]
        if is_outside(name):
            problems.append(f"row {line}: {column}={name!r}, expected a path inside the image folder")
            continue
        places = (file.parent / "images" / name, file.parent / name)
        there = [place for place in places if place.is_file()]
        found += there[:1]
        if not there:
            problems.append(f"row {line}: {column}={name!r}, found no such file in images/ or beside {LABELS}")
    raise_all(f"{file}: {len(problems)} list_images cannot be copied; correct or remove their rows", problems)
    return found


def copy_rows(folder: Path, columns: Sequence[str], rows: Sequence[tuple[Mapping[str, str], Path]]) -> None:
    """Write a data folder of some rows of a labels file, each with its image, which is copied."""
    column = next(name for name in PATH_COLUMNS if name in columns)
    for row, source in rows:
        target = folder / "images" / row[column]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as sink:
        writer = csv.DictWriter(sink, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row, _ in rows)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.holdout", description="Put people aside.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="with labels.csv and images/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or an empty folder")
    parser.add_argument("--by", required=True, metavar="COLUMN", help="drawn apart for each of its values")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--rows", type=int, help="list_images of each value, at least")
    size.add_argument("--share", type=float, help="of each value's list_images, at least")
    parser.add_argument("--seed", type=whole_number_from(0), default=0)
    add_debug_option(parser)
    return parser.parse_args()


def main() -> None:
    """Read the labels, draw, copy."""
    args = parse()
    least = args.rows if args.rows is not None else args.share
    if not (args.rows is None or args.rows >= 1) or not (args.share is None or 0 < args.share < 1):
        raise InputError(f"{least}: expected --rows of at least 1 or --share between 0 and 1")
    file = args.data / LABELS
    columns, lines, problems = read_csv(file)
    column = next((name for name in PATH_COLUMNS if name in columns), None)
    if problems or column is None or args.by not in columns:
        told = problems[0] if problems else f"{file}: columns {', '.join(columns)}, expected {args.by} and path"
        raise InputError(told)
    sources = list_images(file, column, lines)
    rows = [values for _, values in lines]
    whose = [read_person(row, column) for row in rows]
    aside = held_out_rows(whose, [row[args.by] for row in rows], least, args.seed)
    left = {row[args.by] for index, row in enumerate(rows) if index not in aside}
    gone = Counter(row[args.by] for row in rows if row[args.by] not in left)
    raise_all(
        f"{file}: nothing would be left to train on of some; expected fewer --rows or a smaller --share",
        [f"{args.by}={value!r}: all of its {count} list_images" for value, count in gone.items()],
    )
    parts = {"held_out": sorted(aside), "rest": [row for row in range(len(rows)) if row not in aside]}
    with write_folder_atomically(args.out) as whole:  # never one part without the other
        for name, kept in parts.items():
            theirs = [(rows[index], sources[index]) for index in kept]
            copy_rows(whole / name, columns, theirs)
    for name, kept in parts.items():
        print(f"{args.out / name}: {len(kept)} list_images")


if __name__ == "__main__":
    run_script(main)
