"""Effect of test-time views on each head, and of answers tuned for macro F1, out of fold.

python -m bench.merging --runs RUNS [--runs RUNS ...] --out docs/merging.md

Uses all finished folds of every head, each on its validation people; several runs are seeds of one recipe.
Temperature has no row: it does not change the most probable class of a head, and heads are merged by these.
"""

import argparse
from pathlib import Path

import numpy as np

from data.runtime.errors import add_debug_option, run_script
from data.runtime.files import write_text

PAGE = """# Merging

Written by `python -m bench.merging` from finished heads (seeds: {seeds}; folds: {folds}) and their validation
images.

## Test-time views

Macro F1 of each task's heads on all of their validation images; the views' probabilities are averaged. Mean ±
standard deviation over seeds, and the mean difference from the identity alone.

{views}

## Decision

On the {images} images of {people} people that all heads were validated on. Multipliers of the
probabilities are fitted for macro F1 on half of the people and evaluated on the others, {splits} times with
each seed.

{decisions}
"""


def main() -> None:
    """Read the command line, predict, write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.merging", description="Compare views and decisions.")
    runs_help = "trained heads; may be repeated, once per seed"
    parser.add_argument("--runs", type=Path, action="append", required=True, metavar="DIR", help=runs_help)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    add_debug_option(parser)
    args = parser.parse_args()
    from bench.merging.decisions import SPLITS, decision_table  # late, for --help
    from bench.merging.views import predict_runs, view_table
    from bench.validation import select_shared
    from heads.run.folder import find_trained_runs

    runs = predict_runs(args.runs)
    shared = [select_shared(list(heads.values())) for heads in runs]
    page = PAGE.format(
        seeds=len(runs),
        folds=", ".join(f"{task} {len(find_trained_runs(args.runs[0], task))}" for task in runs[0]),
        images=len(shared[0][0]["path"]),
        people=len(np.unique(shared[0][0]["person"])),
        splits=SPLITS,
        views=view_table(runs),
        decisions=decision_table(shared),
    )
    write_text(args.out, page)
    print(page)


if __name__ == "__main__":
    run_script(main)
