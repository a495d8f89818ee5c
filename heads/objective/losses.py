"""Losses over logits [N, K] and targets: class indices int64 [N] or distributions float [N, K].

Cross entropy is PyTorch's own. Balanced class weights are those of `data.annotations.folds.balanced_weights`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heads.objective.ordinal import coral_loss, corn_loss

LossFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def focal_loss(
    logits: Tensor, targets: Tensor, gamma: float = 2.0, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross entropy with each term times (1 - p) ** gamma, averaged (Lin et al. 2017, arXiv:1708.02002).

    At gamma 0 it equals `torch.nn.functional.cross_entropy`, whose average it takes: over class indices by the
    sum of the rows' class weights, over distributions by the number of rows.

    Args:
        gamma: focusing parameter, from 0.
        weight: class weights [K], positive.
        label_smoothing: from 0 to below 1; this share of each target is spread evenly over all classes.

    >>> logits, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    >>> round(focal_loss(logits, targets, gamma=0.0).item(), 4), round(focal_loss(logits, targets).item(), 4)
    (0.1269, 0.0018)
    """
    soft = _as_distribution(targets, logits)
    if label_smoothing:
        soft = soft * (1 - label_smoothing) + label_smoothing / logits.shape[1]
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


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float = 1.0, pool: Tensor | None = None) -> Tensor:
    """Divergence KL(teacher || student) of softened probabilities, times temperature squared, averaged over rows.

    Hinton, Vinyals & Dean 2015, arXiv:1503.02531. Rows of zeros have no teacher and do not count; without any other
    the loss is 0.

    Args:
        logits: of the student, [N, outputs].
        teacher: probabilities [N, K], rows sum to 1.
        temperature: both sides' logits are divided by it, above 0.
        pool: class index of each output, int64 [outputs]; used where K is the number of classes, not of outputs.

    >>> value = distillation_loss(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    >>> round(value.item(), 4)  # the log of 2, of the first row alone
    0.6931
    """
    if pool is not None and teacher.shape[1] != logits.shape[1]:
        logits = torch.stack([logits[:, pool == i].logsumexp(dim=1) for i in range(teacher.shape[1])], dim=1)
    wanted = (teacher.clamp_min(torch.finfo(teacher.dtype).tiny).log() / temperature).log_softmax(dim=1)
    found = (logits / temperature).log_softmax(dim=1)
    rows, known = F.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=1), is_known(teacher)
    return (rows * known).sum() / known.sum().clamp_min(1) * temperature**2


def embedding_loss(found: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of embeddings [N, D], averaged over D and the rows that have a teacher; without any it is 0.

    Feature distillation, a regression of another network's features (Romero et al. 2015, arXiv:1412.6550). Rows of
    zeros have no teacher.

    >>> value = embedding_loss(torch.zeros(2, 2), torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    >>> value.item()  # of the first row alone
    5.0
    """
    known = (teacher != 0).any(dim=1)
    return ((found - teacher).square().mean(dim=1) * known).sum() / known.sum().clamp_min(1)


def is_known(targets: Tensor) -> Tensor:
    """Whether each row of distributions [N, K] sums to 1; rows of zeros, or mixed with such a row, do not.

    >>> is_known(torch.tensor([[0.5, 0.5], [0.5, 0.0], [0.0, 0.0]])).tolist()
    [True, False, False]
    """
    return targets.sum(dim=1) > 0.99


class WeightedSum(nn.Module):
    """The sum of losses of the same logits and targets, each times its factor; class weights [K] move with it."""

    def __init__(self, losses: Sequence[LossFunction], factors: Sequence[float], weight: Tensor | None = None) -> None:
        super().__init__()
        self.losses, self.factors = list(losses), list(factors)
        self.weight: Tensor | None
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        terms = [f * loss(logits, targets, self.weight) for f, loss in zip(self.factors, self.losses, strict=True)]
        return torch.stack(terms).sum()


class TaughtLoss(nn.Module):
    """A loss of the labels, and a factor times that of a teacher, of targets that hold both side by side.

    Of the logits [N, outputs], or [N, outputs + D] where the head also gives embeddings [N, D] (`Head.projection`).

    Args:
        loss: of the labels; it is computed for the images that have one.
        temperature: of the `distillation_loss`; None: the teacher's are embeddings, compared by `embedding_loss`.
        pool: class index of each output, int64 [outputs].
        indices: `loss` takes class indices, not distributions.
    """

    def __init__(self, loss: nn.Module, factor: float, temperature: float | None, pool: Tensor, indices: bool) -> None:
        super().__init__()
        self.loss, self.factor, self.temperature, self.indices = loss, factor, temperature, indices
        self.pool: Tensor
        self.register_buffer("pool", pool)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits, embeddings = logits[:, : len(self.pool)], logits[:, len(self.pool) :]
        labels, teacher = targets[:, : len(self.pool)], targets[:, len(self.pool) :]
        if self.temperature is None:
            value = self.factor * embedding_loss(embeddings, teacher)
        else:
            value = self.factor * distillation_loss(logits, teacher, self.temperature, self.pool)
        if (known := is_known(labels)).any():
            labels = labels[known]
            value = value + self.loss(logits[known], labels.argmax(dim=1) if self.indices else labels)
        return value


def make_loss(name: str, gamma: float = 2.0, label_smoothing: float = 0.0) -> LossFunction:
    """Make a function of logits, targets and class weights [K] or None; soft_f1 and expectation use no weights."""
    if name == "focal":
        return lambda logits, targets, weight: focal_loss(logits, targets, gamma, weight, label_smoothing)
    if name == "cross_entropy":
        return partial(F.cross_entropy, label_smoothing=label_smoothing)
    if name in ("coral", "corn"):
        return coral_loss if name == "coral" else corn_loss
    unweighted = {"soft_f1": soft_f1_loss, "expectation": expectation_loss}[name]
    return lambda logits, targets, _: unweighted(logits, targets)


def _as_distribution(targets: Tensor, logits: Tensor) -> Tensor:
    soft = F.one_hot(targets, logits.shape[1]) if targets.ndim == 1 else targets
    return soft.to(logits.dtype)
