"""Ordered classes as a row of questions "is it above class k?": K classes, K - 1 logits.

CORAL (Cao, Mirjalili & Raschka 2020, doi:10.1016/j.patrec.2020.11.008) asks each question of all rows, with
one weight vector and a bias each; CORN (Shi, Cao & Raschka 2023, arXiv:2111.08851) asks it of those rows
alone for which the question before was a yes.
"""

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def coral_loss(logits: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of the questions' binary cross entropies, averaged over rows, which `weight` may weigh.

    Args:
        logits: [N, K - 1].
        targets: class indices int64 [N], 0..K-1.
        weight: class weights [K], positive; the mean is then over the rows' weights.

    >>> round(coral_loss(torch.zeros(2, 2), torch.tensor([0, 2])).item(), 4)  # two questions of log 2 each
    1.3863
    """
    above = _above(logits, targets)
    rows = F.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(dim=1)
    return _mean(rows, torch.ones_like(rows), targets, weight)


def corn_loss(logits: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross entropy of the questions that each row is asked, averaged over all of them.

    Args:
        logits: [N, K - 1]; logit k is of the probability of "above k" among the rows above k - 1.
        targets: class indices int64 [N], 0..K-1.
        weight: class weights [K], positive; the mean is then over the questions' weights.

    >>> round(corn_loss(torch.zeros(2, 2), torch.tensor([0, 2])).item(), 4)  # three questions of log 2 each
    0.6931
    """
    above = _above(logits, targets)
    asked = torch.cat([torch.ones_like(above[:, :1]), above[:, :-1]], dim=1)
    terms = F.binary_cross_entropy_with_logits(logits, above, reduction="none") * asked
    return _mean(terms.sum(dim=1), asked.sum(dim=1), targets, weight)


def coral_probabilities(logits: Tensor) -> Tensor:
    """Class probabilities [N, K] from CORAL's logits [N, K - 1]; rows sum to 1.

    With one weight vector the answers can only contradict one another by their biases; where they do (a
    question answered more surely yes than the one before), the later one is held down to the earlier.
    """
    return _differences(_accumulated(torch.minimum, logits.sigmoid()))


def corn_probabilities(logits: Tensor) -> Tensor:
    """Class probabilities [N, K] from CORN's logits [N, K - 1] by the chain rule; rows sum to 1."""
    return _differences(_accumulated(torch.mul, logits.sigmoid()))


def _accumulated(step: Callable[[Tensor, Tensor], Tensor], answers: Tensor) -> Tensor:
    """Each question's answer [N, K - 1] by those up to it; torch's cummin and cumprod do not export to ONNX."""
    return torch.stack(list(accumulate(answers.unbind(dim=1), step)), dim=1)


PROBABILITIES = {"coral": coral_probabilities, "corn": corn_probabilities}


class SharedWeights(nn.Module):
    """CORAL's last layer: one weight vector for all questions and a bias each; [N, features] to [N, K - 1]."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Linear(features, 1, bias=False)
        # Falling, as the questions' answers do: "above the first class" is the likeliest at the start.
        self.bias = nn.Parameter(torch.arange(outputs, 0, -1).float() / outputs)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.weight(features) + self.bias
        return logits


class OrdinalLoss(nn.Module):
    """`coral_loss` or `corn_loss` with its class weights bound."""

    def __init__(self, name: str, weight: Tensor | None = None) -> None:
        super().__init__()
        self.function = {"coral": coral_loss, "corn": corn_loss}[name]
        self.weight: Tensor | None
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.function(logits, targets, self.weight)


def _above(logits: Tensor, targets: Tensor) -> Tensor:
    """1 where the target lies above the question's class, [N, K - 1]."""
    return (targets[:, None] > torch.arange(logits.shape[1], device=logits.device)).to(logits.dtype)


def _mean(rows: Tensor, counts: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return rows.sum() / counts.sum()
    return (rows * weight[targets]).sum() / (counts * weight[targets]).sum()


def _differences(above: Tensor) -> Tensor:
    ends = above.new_ones(above.shape[0], 1), above.new_zeros(above.shape[0], 1)
    falling = torch.cat([ends[0], above, ends[1]], dim=1)
    return falling[:, :-1] - falling[:, 1:]
