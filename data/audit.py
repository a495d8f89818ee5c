"""Labels that are probably wrong: ranked, with what they should be, as a CSV to read, strike through and apply.

for k in 0 1 2 3 4; do python train_task.py --task gender --fold $k --data DIR --runs RUNS; done
python -m data.audit --runs RUNS --out suspects.csv
# strike the rows that are right as they are, then:
python train_task.py --task gender --data DIR --set corrections=suspects.csv
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from data.errors import InputError, run_script
from data.files import write_text
from data.suspects import OutOfFold, disagreements, of_people, read_out_of_fold, suspects

SHOWN = 10
VALIDATION = "validation.npz"


def find_predictions(runs: Path, tasks: Sequence[str]) -> dict[str, OutOfFold]:
    """The out-of-fold predictions of each task: of all its folds, else of its one run.

    Args:
        runs: holds `<task>/fold-<k>/validation.npz` or `<task>/validation.npz`.
        tasks: names; all that are there if empty.
    """
    names = list(tasks) or sorted(path.name for path in runs.glob("*") if path.is_dir())
    files = {name: sorted(runs.glob(f"{name}/fold-*/{VALIDATION}")) for name in names}
    for name, found in files.items():
        if not found and (runs / name / VALIDATION).is_file():
            found.append(runs / name / VALIDATION)
    lacking = [name for name, found in files.items() if not found]
    if not files or (tasks and lacking):
        told = ", ".join(lacking) or "any task"
        raise InputError(
            f"{runs}: found no {VALIDATION} of {told}, expected runs/<task>/fold-<k>/: train them with "
            "train_task.py --task NAME --fold K"
        )
    return {name: read_out_of_fold(found) for name, found in files.items() if found}


def as_corrections(found: pd.DataFrame) -> str:
    """Suspects as CSV text that `data.corrections` reads; the reasons stand in further columns."""
    text = io.StringIO()
    found.to_csv(text, index=False, float_format="%.4f", lineterminator="\n")
    return text.getvalue()


def told(task: str, predictions: OutOfFold, ranked: pd.DataFrame, divided: pd.DataFrame) -> str:
    """A task's suspects as lines for the terminal."""
    issues = ranked[ranked["issue"] == "yes"]
    what = "people" if (ranked["shot"] == "").all() else "photographs"
    lines = [f"{task}: {len(issues)} of {len(ranked)} {what} probably have a wrong {predictions.column}"]
    if predictions.found < predictions.folds:
        lines.append(
            f"  only {predictions.found} of {predictions.folds} folds are there; other people are not looked at"
        )
    for row in issues.head(SHOWN).to_dict("records"):
        who = f"{row['person']} {row['shot']}".rstrip()
        lines.append(f"  {who}: {row['found']}, rather {row['suggested']} (quality {row['quality']:.3f})")
    if len(divided):
        lines.append(f"  {len(divided)} people's photographs disagree, most of all:")
        most = divided.head(SHOWN).to_dict("records")
        lines += [f"    {row['person']} ({row['found']}): {row['answers']}" for row in most]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, rank, write."""
    parser = argparse.ArgumentParser(
        prog="python -m data.audit", description="Find labels that are probably wrong."
    )
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="holds the folds of each task")
    parser.add_argument("--task", nargs="+", default=[], metavar="NAME", help="only these (default: all there)")
    parser.add_argument("--out", type=Path, default=Path("suspects.csv"), metavar="FILE")
    parser.add_argument("--all", action="store_true", help="rank every label, not only the probably wrong ones")
    args = parser.parse_args(arguments)
    parts = []
    for task, predictions in find_predictions(args.runs, args.task).items():
        ranked, divided = suspects(of_people(predictions)), disagreements(predictions)
        print(told(task, predictions, ranked, divided))
        parts.append(ranked if args.all else ranked[ranked["issue"] == "yes"])
        if len(divided):
            beside = args.out.with_name(f"{args.out.stem}-disagreements-{task}.csv")
            write_text(beside, as_corrections(divided))
    write_text(args.out, as_corrections(pd.concat(parts)))
    print(f"{args.out}: strike the rows that are right as they are, then --set corrections={args.out}")


if __name__ == "__main__":
    run_script(main)
