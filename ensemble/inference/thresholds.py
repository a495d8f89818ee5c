"""Margins from which a task's first view is enough, chosen together so that joint answers stay what they were.

Every image whose settled answer would differ from that of all views costs something of one budget that the
tasks share; it is spent where it saves most forward passes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import lgamma, log, log1p

import numpy as np
import numpy.typing as npt

from ensemble.inference.early_exit import ALL_VIEWS, needs_all_views

AGREEMENT = 0.995  # of the joint answers, at least
CONFIDENCE = 0.95

Probabilities = npt.NDArray[np.floating]
Pair = tuple[
    Probabilities, Probabilities
]  # merged and of the identity view, as in `ensemble.inference.predictor.TaskOutput`


def allowed_disagreements(images: int, agreement: float = AGREEMENT) -> int:
    """How many of so many images may be answered otherwise, so that `agreement` holds for others as well.

    That is, the one-sided Clopper-Pearson bound (1934, doi:10.1093/biomet/26.4.404) on the share that differs
    is within 1 - `agreement` at `CONFIDENCE`, images taken to be independent. -1: too few for any.

    >>> allowed_disagreements(597), allowed_disagreements(598), allowed_disagreements(2600)
    (-1, 0, 6)
    """
    share, few = 1 - agreement, range(int(images * (1 - agreement)) + 1)
    # The binomial distribution in logarithms: its terms underflow where images are many.
    ways = [lgamma(images + 1) - lgamma(n + 1) - lgamma(images - n + 1) for n in few]
    logs = [way + n * log(share) + (images - n) * log1p(-share) for n, way in zip(few, ways, strict=True)]
    return int((np.exp(logs).cumsum() <= 1 - CONFIDENCE).sum()) - 1


@dataclass(frozen=True)
class _Ladder:
    """A task's possible margins, from the one that settles no answer wrongly to 0.

    Attributes:
        margins: float [D + 1].
        saved: forward passes that each margin saves, [D + 1].
        wrong: images [D] that it settles wrongly: margin k the first k of them.
    """

    margins: npt.NDArray[np.float64]
    saved: npt.NDArray[np.float64]
    wrong: npt.NDArray[np.intp]


def _ladder(pair: Pair, further_passes: int) -> _Ladder:
    merged, identity = pair
    second, first = np.partition(identity.astype(np.float64), -2, axis=1)[:, -2:].T
    gaps = first - second
    wrong = np.flatnonzero(identity.argmax(axis=1) != merged.argmax(axis=1))
    wrong = wrong[np.argsort(-gaps[wrong], kind="stable")]
    # Just above the next image that would be settled wrongly, and 0 once there is none.
    margins = np.minimum(np.append(np.nextafter(gaps[wrong], np.inf), 0.0), ALL_VIEWS)
    settled = np.array([(~needs_all_views(identity, float(margin))).sum() for margin in margins])
    return _Ladder(margins, further_passes * settled.astype(np.float64), wrong)


def choose_thresholds(
    pairs: Mapping[str, Pair], further_passes: Mapping[str, int], disagreements: int
) -> dict[str, float]:
    """Each task's margin (see `needs_all_views`), so that at most `disagreements` joint answers differ.

    Greedy: of all steps down any task's margins that the budget still allows, the one that saves most forward
    passes for each answer that it changes, until none is left. An answer that several tasks change counts once.

    Args:
        pairs: each task's probabilities [N, C] of the same N images.
        further_passes: forward passes of each task beyond its first view.
        disagreements: the budget; below 0 no margin is trusted, and all are 1.
    """
    if disagreements < 0:
        return dict.fromkeys(pairs, ALL_VIEWS)
    ladders = {task: _ladder(pair, further_passes[task]) for task, pair in pairs.items()}
    steps = dict.fromkeys(pairs, 0)
    while True:
        best: tuple[float, str, int] | None = None
        for task, ladder in ladders.items():
            others = [its.wrong[: steps[name]] for name, its in ladders.items() if name != task]
            elsewhere = np.unique(np.concatenate([*others, np.empty(0, dtype=np.intp)]))
            # Joint answers that differ at each step of this task's ladder, the others left where they are.
            spent = len(elsewhere) + np.append(0, (~np.isin(ladder.wrong, elsewhere)).cumsum())
            here = steps[task]
            gain = ladder.saved - ladder.saved[here]
            reachable = (spent <= disagreements) & (gain > 0)
            if reachable.any():
                # A step that costs nothing comes before all that cost something.
                worth = np.where(reachable, gain / np.maximum(spent - spent[here], 1e-9), -1.0)
                step = int(worth.argmax())
                if best is None or worth[step] > best[0]:
                    best = float(worth[step]), task, step
        if best is None:
            return {task: float(ladder.margins[steps[task]]) for task, ladder in ladders.items()}
        steps[best[1]] = best[2]


def early_exit_probabilities(
    pairs: Mapping[str, Pair], margins: Mapping[str, float]
) -> dict[str, Probabilities]:
    """Each task's probabilities [N, C] with further views for needs_all_views images alone."""
    return {
        task: np.where(needs_all_views(identity, margins[task])[:, None], merged, identity)
        for task, (merged, identity) in pairs.items()
    }
