"""Labels that are probably wrong: ranked, with what they should be, as a CSV to read, strike through and apply.

python train_task.py --task gender --set split.folds=5 --fold 0 1 2 3 4 --data DIR --runs RUNS
python -m data.audit --runs RUNS --out suspects.csv
# strike the rows that are right as they are, then:
python train_task.py --task gender --data DIR --set corrections=suspects.csv
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from data.audit.label_issues import average_by_person, disagreements, rank_labels
from data.audit.predictions import OutOfFoldPredictions, is_joint, read_folds
from data.runtime.errors import InputError, add_debug_option, raise_all, run_script
from data.runtime.file_names import check_writable_names
from data.runtime.files import write_text

PRINTED = 10
VALIDATION = "validation.npz"


def find_predictions(runs: Path, tasks: Sequence[str]) -> tuple[dict[str, OutOfFoldPredictions], list[str]]:
    """The out-of-fold predictions of tasks, no two of one label, and a line on each task that is passed over.

    Args:
        runs: holds `<task>/fold-<k>/validation.npz` or `<task>/validation.npz`; folds go before a single run.
        tasks: names. If empty, of those that are there, the one for each label that has most of its folds (the
            first by name of several), and none of a joint label.

    Raises:
        InputError: nothing is there, or nothing of a task that was named; what is there cannot be read or does
            not fit together; a task that was named is of a joint label, or of the same label as another.
    """
    files = _validation_files(runs, tasks)
    joint = [] if tasks else [task for task, paths in files.items() if is_joint(paths)]
    passed_over = [f"{task}: passed over, it is of a joint label, not of one column" for task in joint]
    found = {task: read_folds(paths) for task, paths in files.items() if task not in joint}
    if not found:
        raise InputError(
            f"{runs}: found only heads of joint labels ({', '.join(joint)}), expected one of one label: "
            "train it with train_task.py --task NAME --fold K"
        )
    chosen: dict[str, str] = {}
    for task in sorted(found, key=lambda task: -found[task].found / found[task].folds):
        chosen.setdefault(found[task].column, task)
    # Two heads would give one person two values, and corrections that contradict each other are refused.
    others = {task: chosen[each.column] for task, each in found.items() if chosen[each.column] != task}
    if tasks:
        headline = "--task: several heads of one label, which may say different things of a person:"
        expected = "expected one for each label; name one of the two"
        raise_all(headline, [f"{a} and {b} are of {found[b].column!r}, {expected}" for b, a in others.items()])
    for task, other in others.items():
        here, there = (f"{found[each].found} of {found[each].folds} folds" for each in (task, other))
        passed_over.append(
            f"{task}: passed over ({here}), {other} ({there}) is of {found[task].column!r} too; "
            f"--task {task} takes it instead"
        )
    return {task: each for task, each in found.items() if task not in others}, passed_over


def _validation_files(runs: Path, tasks: Sequence[str]) -> dict[str, list[Path]]:
    """The files of each task that has some; all those named, or else at least one task, must."""
    names = list(tasks) or sorted(path.name for path in runs.glob("*") if path.is_dir())
    files = {name: sorted(runs.glob(f"{name}/fold-*/{VALIDATION}")) for name in names}
    for name, found in files.items():
        if not found and (runs / name / VALIDATION).is_file():
            found.append(runs / name / VALIDATION)
    lacking = [name for name in tasks if not files[name]]
    if lacking or not any(files.values()):
        raise InputError(
            f"{runs}: found no {VALIDATION} of {', '.join(lacking) or 'any task'}, expected "
            "runs/<task>/fold-<k>/: train them with train_task.py --task NAME --fold K"
        )
    return {name: found for name, found in files.items() if found}


def as_corrections(found: pd.DataFrame) -> str:
    """Suspects as CSV text that `data.annotations.corrections` reads; the reasons stand in further columns."""
    text = io.StringIO()
    found.to_csv(text, index=False, float_format="%.4f", lineterminator="\n")
    return text.getvalue()


def task_summary(
    task: str, predictions: OutOfFoldPredictions, ranked: pd.DataFrame, divided: pd.DataFrame
) -> str:
    """A task's rank_labels as lines for the terminal."""
    issues = ranked[ranked["issue"] == "yes"]
    what = "people" if (ranked[["shot", "photograph"]] == "").all(axis=None) else "images"
    lines = [f"{task}: {len(issues)} of {len(ranked)} {what} probably have a wrong {predictions.column}"]
    if predictions.found < predictions.folds:
        lines.append(
            f"  only {predictions.found} of {predictions.folds} folds are there; other people are not looked at"
        )
    for row in issues.head(PRINTED).to_dict("records"):
        who = " ".join(row[name] for name in ("person", "shot", "photograph") if row[name])
        lines.append(f"  {who}: {row['found']}, rather {row['suggested']} (quality {row['quality']:.3f})")
    if len(divided):
        lines.append(f"  {len(divided)} people's images disagree, most of all:")
        most = divided.head(PRINTED).to_dict("records")
        lines += [f"    {row['person']} ({row['found']}): {row['answers']}" for row in most]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, rank, write."""
    parser = argparse.ArgumentParser(
        prog="python -m data.audit", description="Find labels that are probably wrong."
    )
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="holds the folds of each task")
    parser.add_argument(
        "--task", nargs="+", default=[], metavar="NAME", help="only these (default: one a label)"
    )
    parser.add_argument("--out", type=Path, default=Path("suspects.csv"), metavar="FILE")
    parser.add_argument("--all", action="store_true", help="rank every label, not only the probably wrong ones")
    add_debug_option(parser)
    args = parser.parse_args(arguments)
    parts = []
    found, passed_over = find_predictions(args.runs, args.task)
    for line in passed_over:
        print(line)
    for task, predictions in found.items():
        check_writable_names(task, predictions.rows["path"].tolist())
    for task, predictions in found.items():
        ranked, divided = rank_labels(average_by_person(predictions)), disagreements(predictions)
        print(task_summary(task, predictions, ranked, divided))
        parts.append(ranked if args.all else ranked[ranked["issue"] == "yes"])
        if len(divided):
            beside = args.out.with_name(f"{args.out.stem}-disagreements-{task}.csv")
            write_text(beside, as_corrections(divided))
    write_text(args.out, as_corrections(pd.concat(parts)))
    print(f"{args.out}: strike the rows that are right as they are, then --set corrections={args.out}")


if __name__ == "__main__":
    run_script(main)
