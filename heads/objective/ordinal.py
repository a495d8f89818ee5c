"""Ordinal regression: K ordered classes as K - 1 logits, one for each question "is it above class k?".

CORAL (Cao, Mirjalili & Raschka 2020, doi:10.1016/j.patrec.2020.11.008) trains every question on all rows, with
one weight vector and a bias per question; CORN (Shi, Cao & Raschka 2023, arXiv:2111.08851) trains each question
on the rows above the class before. Losses take logits [N, K - 1], targets int64 [N] in 0..K-1 and class weights
[K], by which their means are then weighted.
"""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def coral_loss(logits: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of the questions' binary cross entropies, averaged over rows.

    >>> round(coral_loss(torch.zeros(2, 2), torch.tensor([0, 2])).item(), 4)  # two questions of log 2 each
    1.3863
    """
    above = _above(logits, targets)
    rows = F.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(dim=1)
    return _mean(rows, torch.ones_like(rows), targets, weight)


def corn_loss(logits: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross entropy averaged over all pairs of a row and a question that applies to it.

    Logit k is of the probability of "above k" among the rows above k - 1.

    >>> round(corn_loss(torch.zeros(2, 2), torch.tensor([0, 2])).item(), 4)  # three questions of log 2 each
    0.6931
    """
    above = _above(logits, targets)
    applies = torch.cat([torch.ones_like(above[:, :1]), above[:, :-1]], dim=1)
    terms = F.binary_cross_entropy_with_logits(logits, above, reduction="none") * applies
    return _mean(terms.sum(dim=1), applies.sum(dim=1), targets, weight)


def coral_probabilities(logits: Tensor) -> Tensor:
    """Class probabilities [N, K] from CORAL's logits [N, K - 1]; rows sum to 1.

    Where the biases contradict each other (a question more probable than the one before), the later probability
    is lowered to the earlier one.
    """
    return _class_probabilities(torch.minimum, logits)


def corn_probabilities(logits: Tensor) -> Tensor:
    """Class probabilities [N, K] from CORN's logits [N, K - 1] by the chain rule; rows sum to 1."""
    return _class_probabilities(torch.mul, logits)


PROBABILITIES = {"coral": coral_probabilities, "corn": corn_probabilities}


class CoralLayer(nn.Module):
    """CORAL's last layer: one weight vector for all questions and a bias each; [N, features] to [N, K - 1]."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Linear(features, 1, bias=False)
        # Descending, as the questions' probabilities are.
        self.bias = nn.Parameter(torch.arange(outputs, 0, -1).float() / outputs)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.weight(features) + self.bias
        return logits


def _above(logits: Tensor, targets: Tensor) -> Tensor:
    """1 where the target lies above the question's class, [N, K - 1]."""
    return (targets[:, None] > torch.arange(logits.shape[1], device=logits.device)).to(logits.dtype)


def _mean(rows: Tensor, counts: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return rows.sum() / counts.sum()
    return (rows * weight[targets]).sum() / (counts * weight[targets]).sum()


def _class_probabilities(combine: Callable[[Tensor, Tensor], Tensor], logits: Tensor) -> Tensor:
    # accumulate, since torch's cummin and cumprod do not export to ONNX
    above = torch.stack(list(accumulate(logits.sigmoid().unbind(dim=1), combine)), dim=1)
    ends = above.new_ones(above.shape[0], 1), above.new_zeros(above.shape[0], 1)
    descending = torch.cat([ends[0], above, ends[1]], dim=1)
    return descending[:, :-1] - descending[:, 1:]
