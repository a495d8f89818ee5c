"""Score a submission against the right answers: metrics.json, report.html and a short table.

python evaluate.py --submission out/submission.csv --answers data/eval/answers.csv
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError, run_script

# numpy, scikit-learn and matplotlib are imported where they are used: --help need not wait for them.
if TYPE_CHECKING:
    import pandas as pd

Scores = dict[str, dict[str, Any]]


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, with their defaults from SM_OUTPUT_DATA_DIR and SM_GROUND_TRUTH_DIR where these are set."""
    output, ground_truth = os.environ.get("SM_OUTPUT_DATA_DIR"), os.environ.get("SM_GROUND_TRUTH_DIR")
    submission = Path(output) / "submission.csv" if output else None
    answers = Path(ground_truth) / "answers.csv" if ground_truth else None
    parser = argparse.ArgumentParser(description="Score a submission against the right answers.")
    parser.add_argument(
        "--submission",
        type=Path,
        metavar="FILE",
        default=submission,
        required=submission is None,
        help="CSV of ImageID, ans (default: submission.csv in $SM_OUTPUT_DATA_DIR)",
    )
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="FILE",
        default=answers,
        required=answers is None,
        help="CSV of ImageID and the right ans (default: answers.csv in $SM_GROUND_TRUTH_DIR)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path(output) if output else None,
        help="where metrics.json and report.html go (default: $SM_OUTPUT_DATA_DIR, else beside the submission)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=Path("configs/joint.yaml"),
        help="the tasks of the joint code (default: %(default)s)",
    )
    parser.add_argument(
        "--probabilities",
        type=Path,
        metavar="FILE",
        help="the heads' probabilities, for calibration (default: probabilities.npz beside the submission, "
        "if it is there and of the same images)",
    )
    options = parser.parse_args(arguments)
    options.out = options.out or options.submission.parent
    return options


def evaluate(
    submission: Path,
    answers: Path,
    out: Path,
    tasks: Mapping[str, Sequence[str]],
    probabilities: Path | None = None,
) -> tuple[Scores, list[str]]:
    """Score two CSV files and write `out`/metrics.json and `out`/report.html; returns (scores, notes).

    `tasks` gives each task's class names, most significant task first. `probabilities` defaults to
    probabilities.npz beside the submission; that one is passed over with a note if its images are others.
    Raises InputError for files that cannot be read, do not match, or are one and the same.
    """
    from ensemble.joint import class_names
    from ensemble.metrics import score_joint
    from ensemble.probabilities import FILE_NAME
    from ensemble.submission import match, read_answers

    classes = len(class_names(tasks))
    given, right = read_answers(submission, classes), read_answers(answers, classes)
    if submission.samefile(answers):
        raise InputError(f"{submission}: given both as submission and as answers, expected two files")
    truth, predicted = match(given, right, (str(submission), str(answers)))
    scores = score_joint(truth, predicted, tasks)
    beside = submission.parent / FILE_NAME
    notes: list[str] = []
    if probabilities is not None or beside.exists():
        errors, notes = _calibration(probabilities or beside, right, tasks, asked=probabilities is not None)
        for task, error in errors.items():
            scores[task]["expected_calibration_error"] = error
    _write(out, scores, {"Submission": str(submission), "Answers": str(answers)}, notes)
    return scores, notes


def summary(scores: Scores) -> str:
    """The table for the terminal, and what the answers hold no photograph of.

    >>> print(summary({"joint": {"macro_f1": 0.5, "accuracy": 1, "count": 2, "absent_classes": ["normal"],
    ...                          "classes": [{}, {}]}}))
             macro F1  accuracy
    joint       0.500     1.000
    <BLANKLINE>
    2 photographs
    joint: no photograph of 1 of 2 classes, each counted as F1 0 in the macro F1: normal
    """
    ordered = sorted(scores.items(), key=lambda item: item[0] == "joint")
    width = max(len(name) for name in scores) + 2
    calibrated = any("expected_calibration_error" in each for each in scores.values())
    lines = [f"{'':{width}}  macro F1  accuracy" + ("  calibration error" if calibrated else "")]
    for name, each in ordered:
        line = f"{name:{width}}  {each['macro_f1']:8.3f}  {each['accuracy']:8.3f}"
        error = each.get("expected_calibration_error")
        lines.append(line if error is None else f"{line}  {error:17.3f}")
    lines += ["", f"{scores['joint']['count']} photographs"]
    for name, each in ordered:
        absent = each["absent_classes"]
        if absent:
            lines.append(
                f"{name}: no photograph of {len(absent)} of {len(each['classes'])} classes, "
                f"each counted as F1 0 in the macro F1: {', '.join(absent)}"
            )
    return "\n".join(lines)


def _calibration(
    path: Path, answers: "pd.DataFrame", tasks: Mapping[str, Sequence[str]], *, asked: bool
) -> tuple[dict[str, float], list[str]]:
    """(each task's expected calibration error, notes); images that differ are an error only if `asked` for."""
    import pandas as pd

    from ensemble.joint import decode
    from ensemble.metrics import expected_calibration_error
    from ensemble.probabilities import ID, read_arrays
    from ensemble.submission import ANSWER

    arrays = read_arrays(path)
    if ID not in arrays:
        raise InputError(f"{path}: holds {', '.join(arrays) or 'nothing'}; expected {ID} among them")
    places = pd.Index(arrays[ID].astype(str))
    if places.has_duplicates or set(places) != set(answers[ID]):
        found = f"{path}: its {len(places)} images are not the {len(answers)} of the answers"
        if asked:
            raise InputError(f"{found}; expected the probabilities of this submission")
        return {}, [f"{found}: no calibration error."]
    order = places.get_indexer(answers[ID])
    truth = decode(answers[ANSWER].to_numpy(), [len(names) for names in tasks.values()])
    errors, without = {}, []
    for (task, names), digits in zip(tasks.items(), truth, strict=True):
        if task not in arrays:
            without.append(task)
            continue
        try:
            held = arrays[f"{task}/classes"].astype(str).tolist() if f"{task}/classes" in arrays else names
            if list(held) != list(names):
                raise ValueError(f"classes {', '.join(held)}; expected {', '.join(names)}")
            if arrays[task].shape != (len(places), len(names)):
                raise ValueError(f"shape {arrays[task].shape}, expected ({len(places)}, {len(names)})")
            errors[task] = expected_calibration_error(arrays[task][order], digits)
        except ValueError as error:
            raise InputError(f"{path}: {task}: {error}") from None
    return errors, [f"{path}: no probabilities of {', '.join(without)}."] if without else []


def _write(out: Path, scores: Scores, sources: Mapping[str, str], notes: Sequence[str]) -> None:
    from data.files import write_text
    from ensemble.report import write_report

    try:
        write_text(out / "metrics.json", json.dumps(scores, indent=2, ensure_ascii=False) + "\n")
        write_report(out / "report.html", scores, sources=sources, notes=notes)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}), expected a folder to write into") from None


def main() -> None:
    """Score what the command line names and print the table."""
    options = parse_args()
    from ensemble.config import tasks_of

    scores, notes = evaluate(
        options.submission, options.answers, options.out, tasks_of(options.config), options.probabilities
    )
    print(summary(scores))
    for note in notes:
        print(note)
    print(f"\nfigures: {options.out / 'metrics.json'}\nreport:  {options.out / 'report.html'}")


if __name__ == "__main__":
    run_script(main)
