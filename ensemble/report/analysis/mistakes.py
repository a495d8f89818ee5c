"""Wrong answers one by one, the most confident first."""

from dataclasses import dataclass

import numpy as np

from ensemble.metrics.scores import JOINT
from ensemble.report.load.evaluation import Evaluation


@dataclass(frozen=True)
class HeadAnswer:
    """What one task's answer was: class names, and the head's probabilities by class name (empty: unknown)."""

    task: str
    truth: str
    answer: str
    probabilities: dict[str, float]

    @property
    def wrong(self) -> bool:
        return self.truth != self.answer


@dataclass(frozen=True)
class Mistake:
    """One image whose joint answer is wrong.

    Attributes:
        image: its name.
        truth, answer: joint class names.
        confidence: probability of the joint answer, or None where the heads' are not known.
        heads: the answer of each task.
        known: what is known of the image beside, such as ("age", "61").
    """

    image: str
    truth: str
    answer: str
    confidence: float | None
    heads: list[HeadAnswer]
    known: list[tuple[str, str]]


def mistakes(evaluation: Evaluation) -> list[Mistake]:
    """Every wrong answer; the surest first where probabilities are known, else in the order of the answers."""
    rows = np.flatnonzero(evaluation.wrong()[JOINT])
    joint = evaluation.answer_probabilities(evaluation.predicted).get(JOINT)
    if joint is not None:
        rows = rows[np.argsort(-joint[rows], kind="stable")]
    truth, answers = evaluation.digits(evaluation.truth), evaluation.digits(evaluation.predicted)
    names = evaluation.joint_classes
    found = []
    for row in rows.tolist():
        heads = []
        for task, classes in evaluation.tasks.items():
            output = evaluation.heads.get(task)
            told = {} if output is None else dict(zip(classes, output.merged[row].tolist(), strict=True))
            heads.append(HeadAnswer(task, classes[truth[task][row]], classes[answers[task][row]], told))
        found.append(
            Mistake(
                evaluation.ids[row],
                names[evaluation.truth[row]],
                names[evaluation.predicted[row]],
                None if joint is None else float(joint[row]),
                heads,
                _known(evaluation, row),
            )
        )
    return found


def _known(evaluation: Evaluation, row: int) -> list[tuple[str, str]]:
    known = [(n.name, f"{n.measured[row]:g}") for n in evaluation.numbers if not np.isnan(n.measured[row])]
    if evaluation.people is not None and not evaluation.people[row].startswith("\n"):
        known.append(("person", str(evaluation.people[row])))
    return known
