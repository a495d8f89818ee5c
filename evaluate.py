"""Score a submission against the right answers: metrics.json, report.html and a short table.

python evaluate.py --submission out/submission.csv --answers data/eval/answers.csv --runs runs
python evaluate.py --compare a.csv b.csv --answers data/eval/answers.csv
python evaluate.py --validation --runs runs
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.runtime.errors import InputError, add_debug_option, printable, run_script

# numpy, scikit-learn and matplotlib are imported where they are used: --help need not wait for them.
if TYPE_CHECKING:
    from ensemble.report.analysis.report import Report

FORMATS = {"json": "metrics.json", "html": "report.html", "md": "report.md"}


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
        help="CSV of ImageID, ans (default: submission.csv in $SM_OUTPUT_DATA_DIR)",
    )
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="FILE",
        default=answers,
        help="CSV of ImageID and the right ans, or the labels by name, as a labels.csv has them (default: "
        "answers.csv in $SM_GROUND_TRUTH_DIR)",
    )
    parser.add_argument(
        "--validation",
        action="store_true",
        help="in place of a submission: what the heads of --runs said of the images that all of them were "
        "validated on",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path(output) if output else None,
        help="where metrics.json and report.html go (default: $SM_OUTPUT_DATA_DIR, else beside the submission, "
        "with --validation in --runs)",
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
        "if it is there and gives the same answers)",
    )
    _add_knowledge(parser)
    parser.add_argument(
        "--format",
        nargs="+",
        choices=list(FORMATS),
        default=["json", "html"],
        help="what to write: metrics.json, report.html, report.md (default: json html)",
    )
    add_debug_option(parser)
    options = parser.parse_args(arguments)
    if options.wrong < 0:
        parser.error("--wrong starts at 0")
    if options.validation:
        _check_validation(parser, options)
        return options
    if options.submission is None:
        if len(options.compare) < 2:
            wanted = "--submission, or two files for --compare, or --validation"
            parser.error(f"the following arguments are required: {wanted}")
        options.submission = options.compare[0]
    if options.answers is None:
        parser.error("the following arguments are required: --answers")
    options.out = options.out or options.submission.parent
    return options


def _check_validation(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a message where options do not go with --validation; fill in where the report goes."""
    others = ("submission", "answers", "probabilities", "compare", "people")
    given = [f"--{name}" for name in others if getattr(options, name) != parser.get_default(name)]
    if given:
        parser.error(f"--validation takes what the heads said in training, expected no {', '.join(given)}")
    if options.runs is None:
        parser.error("--validation: expected --runs DIR, the heads' runs")
    options.out = options.out or options.runs


def _add_knowledge(parser: argparse.ArgumentParser) -> None:
    """Options that name what else is known and printable."""
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="FILE",
        default=[],
        help="further submissions on the same answers; without --submission the first one is the report's own",
    )
    parser.add_argument(
        "--people",
        type=Path,
        metavar="FILE",
        help="CSV of ImageID, person (or id) and age in years, for intervals by person and errors by year "
        "(default: such columns of the answers)",
    )
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="the heads' runs, for training curves and temperatures"
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="the images, or --data of combine.py, to embed thumbnails of the wrong answers",
    )
    parser.add_argument(
        "--wrong", type=int, default=300, metavar="N", help="wrong answers to list (default: %(default)s)"
    )


def write(findings: "Report", options: argparse.Namespace) -> list[Path]:
    """Write the formats that `options` ask for; the files, in the order of `FORMATS`."""
    from data.runtime.files import write_text
    from ensemble.report.analysis.report import to_json
    from ensemble.report.render.text import write_markdown
    from ensemble.report.render.page import write_report

    named = ("runs",) if options.validation else ("submission", "answers")
    sources = {name.capitalize(): printable(getattr(options, name)) for name in named}
    paths = {kind: options.out / name for kind, name in FORMATS.items() if kind in options.format}
    try:
        if "html" in paths:  # before the others, since it alone reads images, which may be wrong
            write_report(
                paths["html"],
                findings,
                sources=sources,
                images=options.images,
                most_wrong=options.wrong,
            )
        if "json" in paths:
            text = json.dumps(to_json(findings), indent=2, ensure_ascii=False)
            write_text(paths["json"], text + "\n")
        if "md" in paths:
            write_markdown(paths["md"], findings, sources=sources)
    except OSError as error:
        raise InputError(
            f"{options.out}: cannot be written ({error}), expected a folder to write into"
        ) from None
    return list(paths.values())


def main() -> None:
    """Score what the command line names, write the report and print the table."""
    options = parse_args()
    from ensemble.config import load_labels
    from ensemble.report.analysis.report import analyse
    from ensemble.report.load.load_evaluation import EvaluationFiles, load_evaluation
    from ensemble.report.load.validation import load_validation
    from ensemble.report.render.terminal import summary

    labels = load_labels(options.config)
    if options.validation:
        findings = analyse(*load_validation(options.runs, labels))
    else:
        files = (options.submission, options.answers, options.probabilities, options.people)
        findings = analyse(*load_evaluation(EvaluationFiles(*files, options.runs, options.compare), labels))
    written = write(findings, options)
    print(summary(findings))
    print("\n" + "\n".join(f"{path.name}: {path}" for path in written))


if __name__ == "__main__":
    run_script(main)
