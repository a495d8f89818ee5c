"""Set people of a labelled data folder aside before anything is trained or chosen on them.

python -m bench.holdout --data path/to/portraits --out OUT --by source --rows 500
python -m bench.holdout --data path/to/crops --out OUT --by source --share 0.3333
python -m bench.holdout --data path/to/portraits --out OUT --leave-out utkface

Writes OUT/rest, to train and validate on, and OUT/held_out, to be scored once (`python -m bench.held_out`),
each with a labels.csv and copies of its images.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.runtime.errors import InputError, add_debug_option, raise_all, run_script, whole_number_from
from data.runtime.files import read_csv, write_folder_atomically


def draw_rows(people: Sequence[str], values: Sequence[str], least: int | float, seed: int) -> npt.NDArray[np.bool_]:
    """Draw rows to set aside, whole people at random, for each of `values` separately.

    Args:
        people: person of each row, [N].
        values: group of each row, [N].
        least: rows of each group, at least: a number, or a share of them below 1.
        seed: of the draw.

    >>> draw_rows(["a", "a", "b", "c", "d"], ["x", "x", "x", "y", "y"], 1, seed=0).tolist()
    [True, True, False, True, False]
    """
    import pandas as pd  # late, for --help

    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"person": people, "value": values})
    drawn: set[str] = set()
    for _, group in rows.groupby("value"):
        counts = group["person"].value_counts().sort_index()
        counts = counts.iloc[rng.permutation(len(counts))]
        wanted = least if least >= 1 else least * len(group)
        drawn |= set(counts.index[counts.cumsum() - counts < wanted])
    return rows["person"].isin(drawn).to_numpy()


def main() -> None:
    """Read the command line and the labels, draw, copy."""
    parser = argparse.ArgumentParser(prog="python -m bench.holdout", description="Set people aside.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="with labels.csv and images/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or an empty folder")
    by = "column of labels.csv: draw separately for each of its values (default: %(default)s)"
    parser.add_argument("--by", default="source", metavar="COLUMN", help=by)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--rows", type=whole_number_from(1), help="images of each value, at least")
    size.add_argument("--share", type=float, help="of each value's images, at least")
    size.add_argument("--leave-out", metavar="VALUE", help="all people who have an image of this value, as of a source")
    parser.add_argument("--seed", type=whole_number_from(0), default=0)
    add_debug_option(parser)
    args = parser.parse_args()
    import pandas as pd

    from data.annotations.table import LABELS_FILE, PATH_COLUMNS, read_labels

    if args.share is not None and not 0 < args.share < 1:
        raise InputError(f"--share {args.share}: expected a number between 0 and 1")
    file = args.data / LABELS_FILE
    images, problems = read_labels(file, [args.data / "images", args.data])
    raise_all(f"{file}: cannot be copied ({len(problems)} problems)", problems)
    columns, lines, _ = read_csv(file)
    if args.by not in columns:
        raise InputError(f"--by {args.by}: no such column in {file}, expected one of {', '.join(columns)}")
    path_column = next(name for name in PATH_COLUMNS if name in columns)
    rows = [(values, Path(str(image["path"]))) for (_, values), image in zip(lines, images, strict=True)]
    groups = [values[args.by] for values, _ in rows]
    people = pd.Series([str(image["person"]) for image in images])
    if args.leave_out is None:
        drawn = draw_rows(people.tolist(), groups, args.rows or args.share, args.seed)
    else:
        drawn = people.isin(people[[value == args.leave_out for value in groups]]).to_numpy()
        if not drawn.any():
            known = ", ".join(sorted(set(groups)))
            raise InputError(f"--leave-out {args.leave_out}: no image has it, expected one of {known} in {args.by}")
    counts = pd.Series(drawn).groupby(groups).agg(["size", "all"])
    emptied = counts["size"][counts["all"] & (drawn.all() | (counts.index != args.leave_out))]
    raise_all(
        f"{file}: nothing would be left to train on; expected fewer --rows or a smaller --share",
        [f"{args.by}={value!r}: all of its {count} images" for value, count in emptied.items()],
    )
    parts = {
        name: [rows[row] for row in np.flatnonzero(mask)] for name, mask in (("held_out", drawn), ("rest", ~drawn))
    }
    with write_folder_atomically(args.out) as folder:  # never one part without the other
        for name, part in parts.items():
            for values, image in part:
                copy = folder / name / "images" / values[path_column]
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(image, copy)
            table = pd.DataFrame([values for values, _ in part], columns=columns)
            table.to_csv(folder / name / LABELS_FILE, index=False)
    for name, part in parts.items():
        print(f"{args.out / name}: {len(part)} images")


if __name__ == "__main__":
    run_script(main)
