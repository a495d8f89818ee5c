"""Draw faces in the challenge's layout, so that everything runs without data.

    python -m data.synthetic OUT --people 300 --eval-people 100 --size 96x128 --seed 0

writes OUT/train/images/<id>_<gender>_<race>_<age>/<shot>.jpg and OUT/train/train.csv, and of other people
OUT/eval/images/<40 hex>.jpg, OUT/eval/info.csv (the images to predict) and OUT/eval/answers.csv (for scoring
only; with the person and the age in years, for the report). No real person is in it. About 40 / 40 / 20 % of
the people are under 30, from 30 to 59, and 60 or older; half are men and half women. The 400 people of this
command take about 20 seconds on 2 cores.
"""

import argparse
import re
from pathlib import Path

from data.runtime.errors import InputError, add_debug_option, run_script, whole_number_from


def main() -> None:
    """Parse the command line and write the data."""
    description = "Draw a data set of faces in the challenge's layout."
    parser = argparse.ArgumentParser(prog="python -m data.synthetic", description=description)
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet, or is empty")
    count = whole_number_from(0)
    parser.add_argument("--people", type=count, default=300, help="people to train on (default 300)")
    parser.add_argument("--eval-people", type=count, default=100, help="other people to evaluate on (default 100)")
    parser.add_argument("--size", default="96x128", help="width x height in pixels (default 96x128)")
    parser.add_argument("--seed", type=count, default=0, help="another seed draws other people (default 0)")
    parser.add_argument("--processes", type=whole_number_from(1), help="processes that draw (default: one a core)")
    add_debug_option(parser)
    args = parser.parse_args()
    size = re.fullmatch(r"(\d{1,4})x(\d{1,4})", args.size)
    if size is None or min(width := int(size[1]), height := int(size[2])) < 16:
        raise InputError(f"--size {args.size!r}: expected width x height in pixels from 16 up, such as 96x128")

    from data.synthetic.dataset import write_dataset

    write_dataset(args.out, args.people, args.eval_people, (width, height), args.seed, args.processes)


if __name__ == "__main__":
    run_script(main)
