"""Joint macro F1 of argmax and of multipliers fitted for macro F1, on other people than they were fitted on.

Macro F1 weighs a rare class as much as a common one, so its best predictions lean towards rare classes (Lipton,
Elkan & Naryanaswamy 2014, arXiv:1402.1892).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.markdown import spread, table
from bench.merging.views import average_views
from bench.validation import Arrays
from ensemble.inference.predictor import Task, choose_views
from ensemble.joint import encode, joint_probabilities
from heads.objective.metrics import macro_f1

SPLITS, ROUNDS = 20, 4
# Factors that one class is tried at, in turn; finer steps fit the noise of a validation fold.
FACTORS = np.exp(np.linspace(-1.5, 1.5, 31))


def fit_multipliers(probabilities: npt.NDArray[np.floating], truth: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Fit multipliers [C] for which `(probabilities * multipliers).argmax(axis=1)` has a high macro F1.

    Coordinate ascent: each class in turn is tried at every one of `FACTORS`; the best stays, the nearest to 1
    among equals. The result is never below the macro F1 of the plain argmax on these rows, which should be of
    people that no head was trained on.
    """
    multipliers = np.ones(probabilities.shape[1])
    cautious = FACTORS[np.argsort(np.abs(np.log(FACTORS)), kind="stable")]
    best = macro_f1(truth, (probabilities * multipliers).argmax(axis=1), len(multipliers))
    for _ in range(ROUNDS):
        before = multipliers.copy()
        for place in range(len(multipliers)):
            for factor in cautious:
                tried = multipliers.copy()
                tried[place] = factor
                score = macro_f1(truth, (probabilities * tried).argmax(axis=1), len(multipliers))
                if score > best + 1e-12:
                    best, multipliers = score, tried
        if np.array_equal(before, multipliers):
            break
    return multipliers


def decide(
    probabilities: Sequence[npt.NDArray[np.float32]],
    truths: Sequence[npt.NDArray[np.int64]],
    person: npt.NDArray[np.str_],
) -> pd.DataFrame:
    """Joint macro F1 of each decision, per split: fitted on half of the people, evaluated on the others."""
    radices = [each.shape[1] for each in probabilities]
    joint, truth = joint_probabilities(probabilities), np.asarray(encode(list(truths), radices))
    people, rng = np.unique(person), np.random.default_rng(0)
    rows = []
    for _ in range(SPLITS):
        fit = np.isin(person, rng.permutation(people)[: len(people) // 2])
        pairs = zip(probabilities, truths, strict=True)
        tasks = [p * fit_multipliers(p[fit], labels[fit]) for p, labels in pairs]
        decisions = {
            "argmax": joint,
            "a multiplier for each task's class": joint_probabilities(tasks),
            "for each joint class": joint * fit_multipliers(joint[fit], truth[fit]),
        }
        answers = {name: each[~fit].argmax(axis=1) for name, each in decisions.items()}
        rows.append({name: macro_f1(truth[~fit], each, joint.shape[1]) for name, each in answers.items()})
    return pd.DataFrame(rows)


def decision_table(runs: Sequence[Sequence[Arrays]], tasks: Sequence[Task]) -> str:
    """Write joint macro F1 of each decision over splits and runs, and the difference from argmax.

    Args:
        runs: the heads of each, on the same images in the same order.
        tasks: of the heads, whose default views are averaged.
    """
    splits, views = [], [choose_views(task, "default").views for task in tasks]
    for heads in runs:
        probabilities = [average_views(*each) for each in zip(heads, views, strict=True)]
        splits.append(decide(probabilities, [head["truth"] for head in heads], heads[0]["person"]))
    scores = pd.concat(splits, ignore_index=True)
    differences = scores.sub(scores["argmax"], axis=0)
    rows = [[str(name), spread(scores[name], 3), spread(differences[name], 3, "+")] for name in scores]
    return table(["decision", "joint macro F1", "against argmax"], rows)
