"""Effect of test-time views on each head, and of answers tuned for macro F1, out of fold.

python -m bench.merging --runs RUNS [--runs RUNS ...] [--task NAME ...] [--precision bf16] --out docs/merging.md

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
images, in {precision}.

## Test-time views

The heads on all of their validation images; the views' probabilities are averaged. Mean ± standard deviation over
seeds; gains are over the identity alone, with the 95 % interval of resampled people.

A group of views pays if, added to those that pay before it, the interval of its gain lies above 0 in macro F1 or,
where a head predicts numbers, in their mean absolute error. The order is {groups}. Views that
pay belong in `views.steps`, others in `views.further`.

{views}

## Joint code

The {images} images of {people} people that all heads were validated on, with the views of `combine.py --views`.

{joint}

## Decision

On the same images, with the default views. Multipliers of the probabilities are fitted for macro F1 on half of the
people and evaluated on the others, {splits} times with each seed.

{decisions}
"""


def main() -> None:
    """Read the command line, predict, write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.merging", description="Compare views and decisions.")
    runs_help = "trained heads; may be repeated, once per seed"
    parser.add_argument("--runs", type=Path, action="append", required=True, metavar="DIR", help=runs_help)
    parser.add_argument("--task", nargs="+", metavar="NAME", help="some of the heads (default: those of joint.yaml)")
    parser.add_argument(
        "--precision", choices=["fp32", "bf16"], default="fp32", help="of PyTorch (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    add_debug_option(parser)
    args = parser.parse_args()
    from bench.cost import head_gflop  # late, for --help
    from bench.merging.decisions import SPLITS, decision_table
    from bench.merging.views import VIEW_GROUPS, joint_table, predict_runs, view_table
    from bench.validation import select_shared
    from ensemble.backends.engines import EngineBackend
    from ensemble.inference.load import load_task_heads
    from ensemble.joint import load_joint
    from ensemble.options import JOINT_YAML

    tasks = dict.fromkeys(args.task or load_joint(JOINT_YAML).tasks)
    loaded = [load_task_heads(folder, tasks) for folder in args.runs]
    runs = predict_runs(loaded, EngineBackend(precision=args.precision))
    shared = [select_shared(list(heads.values())) for heads in runs]
    views = []
    for name, head in runs[0].items():
        title = f"### {name}, {len(head['truth'])} images of {len(np.unique(head['person']))} people"
        gflop = head_gflop(loaded[0][name].heads[0])
        views.append(f"{title}\n\n{view_table([heads[name] for heads in runs], gflop)}")
    page = PAGE.format(
        seeds=len(runs),
        precision=args.precision,
        folds=", ".join(f"{name} {len(task.heads)}" for name, task in loaded[0].items()),
        groups=", ".join(VIEW_GROUPS),
        images=len(shared[0][0]["path"]),
        people=len(np.unique(shared[0][0]["person"])),
        splits=SPLITS,
        views="\n\n".join(views),
        joint=joint_table(shared, list(loaded[0].values())),
        decisions=decision_table(shared, list(loaded[0].values())),
    )
    write_text(args.out, page)
    print(page)


if __name__ == "__main__":
    run_script(main)
