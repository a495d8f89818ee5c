"""Majority vote of several submissions.

python -m ensemble.vote a.csv b.csv c.csv --out voted.csv
"""

import argparse
from math import prod
from pathlib import Path

from data.runtime.errors import add_debug_option, run_script
from ensemble.options import add_config_option, add_out_option


def main() -> None:
    """Read the command line and write the voted submission."""
    parser = argparse.ArgumentParser(
        prog="python -m ensemble.vote", description="Majority vote of several submissions."
    )
    parser.add_argument(
        "submissions", type=Path, nargs="+", metavar="CSV", help="at least two; the earliest decides a tie"
    )
    add_config_option(parser)
    add_out_option(parser)
    add_debug_option(parser)
    args = parser.parse_args()
    if args.out.resolve() in [path.resolve() for path in args.submissions]:
        parser.error(f"--out {args.out} is one of the submissions to vote on, expected another file, such as voted.csv")

    from ensemble.files.submission import read_codes, vote, write_submission
    from ensemble.joint import load_tasks  # slow imports wait until after parsing, for --help

    classes = prod(len(names) for names in load_tasks(args.config).values())
    submissions = [read_codes(path, classes) for path in args.submissions]
    voted = vote(submissions, [str(path) for path in args.submissions])
    write_submission(args.out, voted["ImageID"], voted["ans"])
    print(f"{args.out}: {len(voted)} images, by majority of {len(submissions)} submissions")


if __name__ == "__main__":
    run_script(main)
