"""Effect of test-time views on each head, and of answers tuned for macro F1, out of fold.

python -m bench.merging --runs RUNS [--runs RUNS ...] --out docs/merging.md

Uses all finished folds of every head, each on its validation people; several runs are seeds of one recipe.
Temperature has no row: it does not change the most probable class of a head, and heads are merged by these.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.ablate.table import spread
from bench.merging.multipliers import fit_multipliers
from bench.merging.scores import VIEW_SETS, Array, ViewScores, count_folds, score_run, select_shared
from data.runtime.errors import add_debug_option, run_script
from data.runtime.files import write_text
from ensemble.joint import encode, joint_probabilities
from heads.objective.metrics import macro_f1

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
SPLITS = 20


def view_table(runs: Sequence[Mapping[str, ViewScores]]) -> str:
    """Write macro F1 of each task's heads by set of views, over runs, and the difference from the identity."""
    titles = [f"{task}, {len(head.truth)} images" for task, head in runs[0].items()]
    lines = [f"| views | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    for name, steps in VIEW_SETS.items():
        cells = []
        for task in runs[0]:
            scores, plain = (_scores([run[task] for run in runs], each) for each in (steps, []))
            difference = spread(pd.Series([(scores - plain).mean()]), 3, "+")
            cells.append(spread(scores, 3) + (f" ({difference})" if steps else ""))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores(heads: Sequence[ViewScores], steps: Sequence[Any]) -> pd.Series:
    """Macro F1 of each head with the identity and `steps`."""
    pairs = [(head.truth, head.merged(steps)) for head in heads]
    return pd.Series([macro_f1(truth, mean.argmax(axis=1), mean.shape[1]) for truth, mean in pairs])


def decide(
    probabilities: Sequence[Array],
    truths: Sequence[npt.NDArray[np.int64]],
    person: npt.NDArray[np.str_],
    seed: int,
) -> pd.DataFrame:
    """Joint macro F1 of each decision, a row per split: fitted on one half of the people, evaluated on the other."""
    radices = [each.shape[1] for each in probabilities]
    joint, truth = joint_probabilities(probabilities), np.asarray(encode(list(truths), radices))
    people, rng = np.unique(person), np.random.default_rng(seed)
    rows = []
    for _ in range(SPLITS):
        fit = np.isin(person, rng.permutation(people)[: len(people) // 2])
        tasks = [
            p * fit_multipliers(p[fit], labels[fit]) for p, labels in zip(probabilities, truths, strict=True)
        ]
        decisions = {
            "argmax": joint,
            "a multiplier for each task's class": joint_probabilities(tasks),
            "for each joint class": joint * fit_multipliers(joint[fit], truth[fit]),
        }
        answers = {name: each[~fit].argmax(axis=1) for name, each in decisions.items()}
        rows.append({name: macro_f1(truth[~fit], each, joint.shape[1]) for name, each in answers.items()})
    return pd.DataFrame(rows)


def decision_table(runs: Sequence[Sequence[ViewScores]]) -> str:
    """Write joint macro F1 of each decision over splits and runs, and the difference from argmax.

    Args:
        runs: the heads of each, on the same images in the same order.
    """
    splits = []
    for heads in runs:
        probabilities, truths = [head.merged(["hflip"]) for head in heads], [head.truth for head in heads]
        splits.append(decide(probabilities, truths, heads[0].person, seed=0))
    scores = pd.concat(splits)
    lines = ["| decision | joint macro F1 | against argmax |", "| --- | --- | --- |"]
    for name, column in scores.items():
        lines.append(f"| {name} | {spread(column, 3)} | {spread(column - scores['argmax'], 3, '+')} |")
    return "\n".join(lines)


def main() -> None:
    """Load the heads, compare, write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.merging", description="Effect of views and decisions."
    )
    runs_help = "trained heads; may be repeated, once per seed"
    parser.add_argument("--runs", type=Path, action="append", required=True, metavar="DIR", help=runs_help)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    add_debug_option(parser)
    args = parser.parse_args()
    folds = count_folds(args.runs)
    runs = [score_run(folder) for folder in args.runs]
    shared = [select_shared(heads) for heads in runs]
    page = PAGE.format(
        seeds=len(runs),
        folds=", ".join(f"{task} {count}" for task, count in folds.items()),
        images=len(shared[0][0].truth),
        people=len(np.unique(shared[0][0].person)),
        splits=SPLITS,
        views=view_table(runs),
        decisions=decision_table(shared),
    )
    write_text(args.out, page)
    print(page)


if __name__ == "__main__":
    run_script(main)
