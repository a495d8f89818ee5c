"""Losses over logits [N, K] and targets: class indices int64 [N] or distributions float [N, K].

Each is a function with a thin module around it; cross entropy is PyTorch's own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heads.objective.ordinal import OrdinalLoss


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy with each term times (1 - p) ** gamma, averaged (Lin et al. 2017, arXiv:1708.02002).

    Averages as `torch.nn.functional.cross_entropy` does, which it equals at gamma 0: over class indices by
    the sum of the rows' class weights, over distributions by the number of rows.

    Args:
        logits: [N, K].
        targets: int64 [N] or float [N, K].
        gamma: from 0; how much less what is already right counts.
        weight: class weights [K], positive.
        label_smoothing: from 0 to below 1; this share of each target is spread evenly over all classes.

    >>> logits, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    >>> round(focal_loss(logits, targets, gamma=0.0).item(), 4), round(focal_loss(logits, targets).item(), 4)
    (0.1269, 0.0018)
    """
    classes = logits.shape[1]
    soft = _as_distribution(targets, classes).to(logits.dtype)
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
    """One minus the batch's macro F1, with probabilities in place of counts.

    The mean is over the classes that the batch holds: one that no row has could only lose.
    """
    soft = _as_distribution(targets, logits.shape[1]).to(logits.dtype)
    p = logits.softmax(dim=1)
    true_positive = (p * soft).sum(dim=0)
    f1 = 2 * true_positive / (p.sum(dim=0) + soft.sum(dim=0)).clamp_min(1e-12)
    present = soft.sum(dim=0) > 0
    return 1 - f1[present].mean()


def expectation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of the distributions' means, in outputs.

    From Gao et al. 2018, doi:10.24963/ijcai.2018/99. Beside a loss over the distribution it teaches the head
    the figure that an error in years is measured by.

    Args:
        logits: [N, K], over whole numbers that follow one another.
        targets: distributions float [N, K].

    >>> value = expectation_loss(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]))
    >>> round(value.item(), 4)  # the mean is 1, not 2
    1.0
    """
    numbers = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)
    return ((logits.softmax(dim=1) - targets.to(logits.dtype)) @ numbers).abs().mean()


class FocalLoss(nn.Module):
    """`focal_loss` with its arguments bound."""

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.gamma, self.label_smoothing = gamma, label_smoothing
        self.weight: Tensor | None
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return focal_loss(logits, targets, self.gamma, self.weight, self.label_smoothing)


class SoftF1Loss(nn.Module):
    """`soft_f1_loss` as a module."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return soft_f1_loss(logits, targets)


class ExpectationLoss(nn.Module):
    """`expectation_loss` as a module."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return expectation_loss(logits, targets)


class WeightedSum(nn.Module):
    """Several losses of the same logits and targets, each times its factor."""

    def __init__(self, losses: Sequence[nn.Module], factors: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.factors = list(factors)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        terms = [f * loss(logits, targets) for f, loss in zip(self.factors, self.losses, strict=True)]
        return torch.stack(terms).sum()


def make_loss(name: str, weight: Tensor | None, gamma: float = 2.0, label_smoothing: float = 0.0) -> nn.Module:
    """A loss by name: focal, cross_entropy, coral, corn; soft_f1 and expectation take no weight [K]."""
    if name == "focal":
        return FocalLoss(gamma, weight, label_smoothing)
    if name == "cross_entropy":
        return nn.CrossEntropyLoss(weight, label_smoothing=label_smoothing)
    if name == "soft_f1":
        return SoftF1Loss()
    if name == "expectation":
        return ExpectationLoss()
    if name in ("coral", "corn"):
        return OrdinalLoss(name, weight)
    raise ValueError(f"unknown loss {name!r}")


def _as_distribution(targets: Tensor, classes: int) -> Tensor:
    return F.one_hot(targets, classes) if targets.ndim == 1 else targets
