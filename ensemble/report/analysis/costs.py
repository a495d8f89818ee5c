"""What a joint score is lost to: which head, which class, alone or together."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ensemble.joint import encode
from ensemble.metrics.scores import JOINT, Score
from ensemble.report.load.evaluation import Evaluation
from heads.objective.metrics import macro_f1


@dataclass(frozen=True)
class Cause:
    """Joint errors in which exactly these tasks are wrong: their number and share of all joint errors, 0..1."""

    tasks: tuple[str, ...]
    count: int
    share: float

    @property
    def name(self) -> str:
        return f"{self.tasks[0]} only" if len(self.tasks) == 1 else " and ".join(self.tasks)


def error_causes(evaluation: Evaluation) -> list[Cause]:
    """Every set of tasks that is wrong together at least once, the most frequent first."""
    wrong = evaluation.wrong()
    counts = Counter(
        tuple(task for task in evaluation.tasks if wrong[task][row]) for row in np.flatnonzero(wrong[JOINT])
    )
    total = max(sum(counts.values()), 1)
    order = sorted(counts.items(), key=lambda each: (-each[1], len(each[0]), each[0]))
    return [Cause(tasks, count, count / total) for tasks, count in order]


def scores_if_right(evaluation: Evaluation) -> dict[str, float]:
    """The joint macro F1 that would be reached if one task alone were right everywhere, by task."""
    truth, predicted = evaluation.digits(evaluation.truth), evaluation.digits(evaluation.predicted)
    reached = {}
    for task in evaluation.tasks:
        codes = encode(list((predicted | {task: truth[task]}).values()), evaluation.radices)
        reached[task] = macro_f1(evaluation.truth, codes, len(evaluation.joint_classes))
    return reached


def costliest(scores: Mapping[str, Score], if_right: Mapping[str, float]) -> str:
    """One sentence on what costs most: the task, and the class of it whose mending would help most."""
    joint = scores[JOINT]["macro_f1"]
    task = max(if_right, key=lambda name: if_right[name])
    gained = if_right[task] - joint
    if gained <= 0:
        return "No single task costs joint macro F1."
    worst = max(scores[task]["classes"], key=lambda each: each["joint_cost"])
    return (
        f"{task} costs most: were it always right, joint macro F1 would be {if_right[task]:.3f} instead of "
        f"{joint:.3f}; its class {worst['name']} alone takes {worst['joint_cost']:.3f} "
        f"(recall {worst['recall']:.3f}, {worst['support']:,} images)."
    )
