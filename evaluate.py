"""Score a submission against the ground truth: metrics.json, report.html and a table in the terminal.

python evaluate.py --submission out/submission.csv --answers data/eval/answers.csv --runs runs
python evaluate.py --compare a.csv b.csv --answers data/eval/answers.csv
python evaluate.py --validation --runs runs
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from data.runtime.errors import add_debug_option, run_script, whole_number_from
from ensemble.options import JOINT_YAML, add_config_option

FORMATS = {"json": "metrics.json", "html": "report.html", "md": "report.md"}


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; SM_OUTPUT_DATA_DIR and SM_GROUND_TRUTH_DIR give defaults."""
    output, ground_truth = os.environ.get("SM_OUTPUT_DATA_DIR"), os.environ.get("SM_GROUND_TRUTH_DIR")
    parser = argparse.ArgumentParser(description="Score a submission against the ground truth.")

    def add(option: str, text: str, default: Path | None = None, metavar: str = "FILE") -> None:
        parser.add_argument(option, type=Path, metavar=metavar, default=default, help=text)

    default = "without --compare, submission.csv in $SM_OUTPUT_DATA_DIR"
    add("--submission", f"CSV of ImageID, ans (default: {default})")
    add(
        "--answers",
        "ground truth: CSV of ImageID and ans, or of the labels by name, as a labels.csv has them (default: "
        "answers.csv in $SM_GROUND_TRUTH_DIR)",
        Path(ground_truth, "answers.csv") if ground_truth else None,
    )
    parser.add_argument(
        "--validation", action="store_true", help="in place of a submission: validation predictions of --runs"
    )
    add(
        "--out",
        "where the report goes (default: $SM_OUTPUT_DATA_DIR, else beside the submission, or in --runs)",
        Path(output) if output else None,
        "DIR",
    )
    add_config_option(parser, of_runs=True)
    add(
        "--probabilities",
        "for calibration (default: probabilities.npz beside the submission, if it has the same answers)",
    )
    add(
        "--people",
        "CSV of ImageID, person (or group) and age, for intervals by person and errors by age (default: --answers)",
    )
    add("--runs", "runs of the heads, for training curves and temperatures", metavar="DIR")
    add("--images", "the images, or --data of combine.py, to embed thumbnails; with --runs also maps", metavar="DIR")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="FILE",
        default=[],
        help="further submissions on the same answers; without --submission the first one is reported on",
    )
    parser.add_argument(
        "--wrong", type=whole_number_from(0), default=300, metavar="N", help="errors to list (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=list(FORMATS),
        default=["json", "html"],
        help="files to write (default: json html)",
    )
    add_debug_option(parser)
    options = parser.parse_args(arguments)
    if output and options.submission is None and not (options.compare or options.validation):
        options.submission = Path(output, "submission.csv")
    if options.validation:
        others = ("submission", "answers", "probabilities", "compare", "people")
        given = [f"--{name}" for name in others if getattr(options, name) != parser.get_default(name)]
        if given:
            parser.error(f"--validation scores predictions made in training, expected no {', '.join(given)}")
        if options.runs is None:
            parser.error("--validation: expected --runs DIR, the runs of the heads")
    elif options.submission is None and len(options.compare) < 2:
        parser.error("expected --submission, or two files for --compare, or --validation")
    elif options.answers is None:
        parser.error("the following arguments are required: --answers")
    options.submission = options.submission or next(iter(options.compare), None)
    options.out = options.out or (options.runs if options.validation else options.submission.parent)
    return options


def main() -> None:
    """Score the predictions that the command line names, write the report and print a table."""
    options = parse_args()
    from ensemble.inference.load import read_labels
    from ensemble.joint import load_labels
    from ensemble.report.analysis.report import analyse
    from ensemble.report.load.load_evaluation import load_evaluation
    from ensemble.report.load.runs import load_validation
    from ensemble.report.render.page import write_reports
    from ensemble.report.render.text import summary

    if options.runs is None:
        labels = load_labels(options.config or JOINT_YAML)
    else:
        labels = read_labels(options.runs, options.config)
    if options.validation:
        loaded, sources = load_validation(options.runs, labels), {"Runs": options.runs}
    else:
        sources = {"Submission": options.submission, "Answers": options.answers}
        loaded = load_evaluation(
            labels,
            options.submission,
            options.answers,
            probabilities=options.probabilities,
            people=options.people,
            runs=options.runs,
            compare=options.compare,
        )
    report = analyse(*loaded)
    paths = [options.out / name for kind, name in FORMATS.items() if kind in options.format]
    write_reports(paths, report, sources, options.images, options.wrong, options.runs)
    print(summary(report), "", *(f"{path.name}: {path}" for path in paths), sep="\n")


if __name__ == "__main__":
    run_script(main)
