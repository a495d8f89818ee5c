"""Losses over logits [N, K] and targets: class indices int64 [N] or distributions float [N, K].

Each is a function; `make_loss` binds its arguments. Cross entropy is PyTorch's own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heads.objective.ordinal import coral_loss, corn_loss


def focal_loss(
    logits: Tensor, targets: Tensor, gamma: float = 2.0, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross entropy with each term times (1 - p) ** gamma, averaged (Lin et al. 2017, arXiv:1708.02002).

    At gamma 0 it equals `torch.nn.functional.cross_entropy`, whose average it takes: over class indices by the
    sum of the rows' class weights, over distributions by the number of rows.

    Args:
        logits: [N, K].
        targets: int64 [N] or float [N, K].
        gamma: focusing parameter, from 0.
        weight: class weights [K], positive.
        label_smoothing: from 0 to below 1; this share of each target is spread evenly over all classes.

    >>> logits, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    >>> round(focal_loss(logits, targets, gamma=0.0).item(), 4), round(focal_loss(logits, targets).item(), 4)
    (0.1269, 0.0018)
    """
    classes = logits.shape[1]
    soft = _as_distribution(targets, logits)
    if label_smoothing:
        soft = soft * (1 - label_smoothing) + label_smoothing / classes
    log_p = logits.log_softmax(dim=1)
    terms = -soft * log_p
    if gamma:
        # 1 - p as -expm1(log p): near p = 1 the difference itself would lose its digits and its gradient.
        terms = terms * (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny) ** gamma
    if weight is None:
        return terms.sum() / len(logits)
    total = weight[targets].sum() if targets.ndim == 1 else len(logits)
    return (terms * weight).sum() / total


def soft_f1_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the batch's macro F1, with probabilities in place of counts, over the classes of the batch."""
    soft, p = _as_distribution(targets, logits), logits.softmax(dim=1)
    true_positive = (p * soft).sum(dim=0)
    f1 = 2 * true_positive / (p.sum(dim=0) + soft.sum(dim=0)).clamp_min(1e-12)
    present = soft.sum(dim=0) > 0
    return 1 - f1[present].mean()


def expectation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of the means of predicted and target distributions over whole numbers.

    The loss of Gao et al. 2018, doi:10.24963/ijcai.2018/99; `targets` are distributions float [N, K].

    >>> value = expectation_loss(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]))
    >>> round(value.item(), 4)  # the mean is 1, not 2
    1.0
    """
    numbers = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
    return ((logits.softmax(dim=1) - targets.to(logits.dtype)) @ numbers).abs().mean()


class FunctionLoss(nn.Module):
    """A loss function with its arguments; class weights [K] move with the module."""

    def __init__(self, function: Callable[..., Tensor], weight: Tensor | None = None, **arguments: Any) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments
        self.weight: Tensor | None
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        weight = {} if self.weight is None else {"weight": self.weight}
        return self.function(logits, targets, **weight, **self.arguments)


class WeightedSum(nn.Module):
    """The sum of several losses of the same logits and targets, each times its factor."""

    def __init__(self, losses: Sequence[nn.Module], factors: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.factors = list(factors)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        terms = [f * loss(logits, targets) for f, loss in zip(self.factors, self.losses, strict=True)]
        return torch.stack(terms).sum()


def make_loss(name: str, weight: Tensor | None, gamma: float = 2.0, label_smoothing: float = 0.0) -> nn.Module:
    """Make a loss by name; soft_f1 and expectation do not use class weights [K]."""
    if name == "cross_entropy":
        return nn.CrossEntropyLoss(weight, label_smoothing=label_smoothing)
    if name == "focal":
        return FunctionLoss(focal_loss, weight, gamma=gamma, label_smoothing=label_smoothing)
    if name in ("coral", "corn"):
        return FunctionLoss({"coral": coral_loss, "corn": corn_loss}[name], weight)
    return FunctionLoss({"soft_f1": soft_f1_loss, "expectation": expectation_loss}[name])


def _as_distribution(targets: Tensor, logits: Tensor) -> Tensor:
    soft = F.one_hot(targets, logits.shape[1]) if targets.ndim == 1 else targets
    return soft.to(logits.dtype)
