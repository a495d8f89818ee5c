"""Rank the labels that are probably wrong as a CSV file of corrections, to be reviewed before it is applied.

python train_task.py --task age_backbone gender --set split.folds=5 --fold 0 1 2 3 4 --data DIR --runs RUNS
python -m data.audit --runs RUNS --out suspects.csv
# delete the rows whose labels are right, then:
python train_task.py --task gender --data DIR --set corrections=suspects.csv
"""

import argparse
import glob
from collections.abc import Sequence
from pathlib import Path

from data.runtime.errors import add_debug_option, run_script
from data.runtime.files import check_writable_names, write_text


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, rank the labels and write them."""
    parser = argparse.ArgumentParser(prog="python -m data.audit", description="Find labels that are probably wrong.")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="holds the folds of each task")
    parser.add_argument("--task", nargs="+", default=[], metavar="NAME", help="only these (default: one a label)")
    parser.add_argument("--out", type=Path, default=Path("suspects.csv"), metavar="FILE")
    parser.add_argument("--all", action="store_true", help="rank every label, not only the probably wrong ones")
    add_debug_option(parser)
    args = parser.parse_args(arguments)

    # Imported here so that --help is quick.
    import pandas as pd

    from data.audit.label_issues import average_by_person, disagreements, rank_labels, task_summary
    from data.audit.predictions import find_predictions

    def write_csv(path: Path, table: pd.DataFrame) -> None:
        write_text(path, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))

    found, left_out = find_predictions(args.runs, args.task)
    for task, predictions in found.items():
        check_writable_names(task, predictions.rows["path"].tolist())
    for earlier in args.out.parent.glob(f"{glob.escape(args.out.stem)}-disagreements-*.csv"):
        earlier.unlink()  # of a run with other tasks or predictions
    parts, lines = [], left_out
    for task, predictions in found.items():
        ranked, divided = rank_labels(average_by_person(predictions)), disagreements(predictions)
        lines.append(task_summary(task, predictions, ranked, divided))
        parts.append(ranked if args.all else ranked[ranked["issue"] == "yes"])
        if len(divided):
            write_csv(args.out.with_name(f"{args.out.stem}-disagreements-{task}.csv"), divided)
    write_csv(args.out, pd.concat(parts))
    print("\n".join(lines))  # after the files, so that `| head` leaves them all
    print(f"{args.out}: delete the rows whose labels are right, then --set corrections={args.out}")


if __name__ == "__main__":
    run_script(main)
