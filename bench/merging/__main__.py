"""What merging is worth: test-time views of each head, and answers tuned for macro F1, out of fold.

python -m bench.merging --runs RUNS [--runs RUNS ...] --out docs/merging.md

Reads all finished folds of every head, each on the people that it was validated on; several runs are seeds of
one recipe. Temperature has no row: it does not change which class of a head is the likeliest, and heads are
merged by their likeliest classes.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.ablate.table import spread
from bench.merging.scores import VIEW_SETS, Array, ViewScores, check_alike, score_run, shared
from data.runtime.errors import add_debug_option, run_script
from data.runtime.files import write_text
from ensemble.joint import encode, joint_probabilities
from ensemble.metrics.decide import fit_multipliers
from heads.objective.metrics import macro_f1

PAGE = """# Merging

Written by `python -m bench.merging` from finished heads (seeds: {seeds}; folds: {folds}) and their validation
images.

## Test-time views

Macro F1 of each task's heads on all that they were validated on; the views' probabilities are averaged. Mean ±
standard deviation over seeds, and the mean difference from the plain view.

{views}

## Decision

On the {images} images of {people} people that all heads were validated on. Multipliers of the
probabilities are fitted for macro F1 on half of the people and judged on the others, {splits} times with each
seed.

{decisions}
"""
SPLITS = 20


def view_table(runs: Sequence[Mapping[str, ViewScores]]) -> str:
    """Macro F1 of each task's head by its set of views: over runs, and against the plain view."""
    titles = [f"{task}, {len(head.truth)} images" for task, head in runs[0].items()]
    lines = [f"| views | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    plain = {task: _scores([run[task] for run in runs], []) for task in runs[0]}
    for name, steps in VIEW_SETS.items():
        cells = []
        for task, without in plain.items():
            scores = _scores([run[task] for run in runs], steps)
            less = spread(pd.Series([(scores - without).mean()]), 3, "+")
            cells.append(spread(scores, 3) + (f" ({less})" if steps else ""))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores(heads: Sequence[ViewScores], steps: Sequence[Any]) -> pd.Series:
    """Macro F1 of each of some heads with identity and `steps`."""
    pairs = [(head.truth, head.merged(steps)) for head in heads]
    return pd.Series([macro_f1(truth, said.argmax(axis=1), said.shape[1]) for truth, said in pairs])


def decisions(
    probabilities: Sequence[Array],
    truths: Sequence[npt.NDArray[np.int64]],
    person: npt.NDArray[np.str_],
    seed: int,
) -> dict[str, list[float]]:
    """Joint macro F1 of each way to decide, fitted on one half of the people and judged on the other."""
    radices = [each.shape[1] for each in probabilities]
    joint, truth = joint_probabilities(probabilities), np.asarray(encode(list(truths), radices))
    people, rng = np.unique(person), np.random.default_rng(seed)
    found: dict[str, list[float]] = {
        "argmax": [],
        "a multiplier for each task's class": [],
        "for each joint class": [],
    }
    for _ in range(SPLITS):
        fitted = np.isin(person, rng.permutation(people)[: len(people) // 2])
        tasks = [
            each * fit_multipliers(each[fitted], its[fitted])
            for each, its in zip(probabilities, truths, strict=True)
        ]
        weighed = joint * fit_multipliers(joint[fitted], truth[fitted])
        for name, answer in zip(found, (joint, joint_probabilities(tasks), weighed), strict=True):
            found[name].append(macro_f1(truth[~fitted], answer[~fitted].argmax(axis=1), joint.shape[1]))
    return found


def decision_table(runs: Sequence[Sequence[ViewScores]]) -> str:
    """Joint macro F1 of each way to decide: over splits and runs, and against argmax on the same.

    Args:
        runs: the heads of each, on the same images in the same order.
    """
    found: dict[str, list[float]] = {}
    for heads in runs:
        probabilities = [head.merged(VIEW_SETS["hflip"]) for head in heads]
        truths, person = [head.truth for head in heads], heads[0].person
        for name, scores in decisions(probabilities, truths, person, seed=0).items():
            found.setdefault(name, []).extend(scores)
    judged = pd.DataFrame(found)
    lines = ["| decision | joint macro F1 | against argmax |", "| --- | --- | --- |"]
    for name in found:
        less = judged[name] - judged["argmax"]
        lines.append(f"| {name} | {spread(judged[name], 3)} | {spread(less, 3, '+')} |")
    return "\n".join(lines)


def main() -> None:
    """Read the heads, judge them, write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.merging", description="What merging is worth.")
    parser.add_argument(
        "--runs",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="heads; may be repeated, once a seed",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    add_debug_option(parser)
    args = parser.parse_args()
    folds = check_alike(args.runs)
    runs = [score_run(folder) for folder in args.runs]
    common = [shared(heads) for heads in runs]
    page = PAGE.format(
        seeds=len(runs),
        folds=", ".join(f"{task} {count}" for task, count in zip(runs[0], folds, strict=True)),
        images=len(common[0][0].truth),
        people=len(np.unique(common[0][0].person)),
        splits=SPLITS,
        views=view_table(runs),
        decisions=decision_table(common),
    )
    write_text(args.out, page)
    print(page)


if __name__ == "__main__":
    run_script(main)
