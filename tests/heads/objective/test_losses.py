"""Focal loss at gamma 0 is PyTorch's cross entropy; soft F1 of certain answers is scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from heads.objective.losses import (
    ExpectationLoss,
    FocalLoss,
    SoftF1Loss,
    WeightedSum,
    expectation_loss,
    focal_loss,
    make_loss,
    soft_f1_loss,
)

ROWS, CLASSES = 40, 5
WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.5, 7.0])


def random_case(distribution: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, CLASSES, generator=generator) * 4
    if distribution:
        return logits, torch.randn(ROWS, CLASSES, generator=generator).softmax(dim=1)
    return logits, torch.randint(CLASSES, (ROWS,), generator=generator)


@pytest.mark.parametrize("distribution", [False, True], ids=["indices", "distributions"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_at_gamma_0_is_cross_entropy(distribution: bool, weight: Tensor | None, smoothing: float) -> None:
    logits, targets = random_case(distribution)
    logits.requires_grad_()
    ours = focal_loss(logits, targets, 0.0, weight, smoothing)
    theirs = F.cross_entropy(logits, targets, weight, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    ours_grad, theirs_grad = (torch.autograd.grad(value, logits)[0] for value in (ours, theirs))
    assert torch.allclose(ours_grad, theirs_grad, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_of_two_classes_is_torchvisions_sigmoid_focal_loss(gamma: float) -> None:
    # Two logits (0, z) have the probabilities that a sigmoid has of z.
    z = torch.linspace(-6, 6, 25)
    answers = torch.arange(25) % 2
    ours = focal_loss(torch.stack([torch.zeros_like(z), z], dim=1), answers, gamma)
    theirs = sigmoid_focal_loss(z, answers.float(), alpha=-1, gamma=gamma, reduction="mean")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_focal_of_a_known_probability_is_the_papers_formula() -> None:
    p = np.array([0.7, 0.2, 0.1])
    logits = torch.tensor(np.log(p)).repeat(2, 1)
    weight = torch.tensor([2.0, 1.0, 5.0], dtype=torch.float64)
    terms = -((1 - p) ** 2) * np.log(p)
    expected = (2 * terms[0] + 5 * terms[2]) / (2 + 5)
    assert focal_loss(logits, torch.tensor([0, 2]), 2.0, weight).item() == pytest.approx(expected)


def test_focal_of_a_distribution_is_the_mean_of_its_terms() -> None:
    p, target = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.5, 0.0])
    expected = -(target * (1 - p) ** 2 * np.log(p)).sum()
    value = focal_loss(torch.tensor(np.log(p))[None], torch.tensor(target)[None], 2.0)
    assert value.item() == pytest.approx(expected)


def test_an_index_and_its_one_hot_row_lose_the_same() -> None:
    logits, targets = random_case()
    one_hot = F.one_hot(targets, CLASSES).float()
    assert focal_loss(logits, targets).item() == pytest.approx(focal_loss(logits, one_hot).item())
    assert soft_f1_loss(logits, targets).item() == pytest.approx(soft_f1_loss(logits, one_hot).item())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [1e-6, 30.0, 200.0, 1e4])
@pytest.mark.parametrize("distribution", [False, True], ids=["index", "distribution"])
def test_gradients_are_finite_however_sure_the_head_is(gamma: float, size: float, distribution: bool) -> None:
    logits = torch.tensor([[size, 0.0, -size], [-size, 0.0, size]], requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]) if distribution else torch.tensor([0, 0])
    for loss in (focal_loss(logits, targets, gamma), soft_f1_loss(logits, targets)):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("drop", [None, 3], ids=["all classes", "a class absent"])
def test_soft_f1_of_certain_answers_is_scikit_learns_macro_f1(drop: int | None) -> None:
    logits, targets = random_case()
    keep = targets != drop if drop is not None else torch.ones(ROWS, dtype=torch.bool)
    logits, targets = logits[keep], targets[keep]
    answers = logits.argmax(dim=1)
    certain = F.one_hot(answers, CLASSES) * 1e3
    present = np.unique(targets)
    expected = 1 - f1_score(targets, answers, labels=present, average="macro", zero_division=0)
    assert soft_f1_loss(certain.float(), targets).item() == pytest.approx(expected, abs=1e-6)


def test_a_weighted_sum_is_the_sum_by_hand() -> None:
    logits, targets = random_case()
    loss = WeightedSum([FocalLoss(2.0, WEIGHT), SoftF1Loss()], [0.7, 0.3])
    expected = 0.7 * focal_loss(logits, targets, 2.0, WEIGHT) + 0.3 * soft_f1_loss(logits, targets)
    assert loss(logits, targets).item() == pytest.approx(expected.item())


def test_losses_by_name_are_the_functions_with_their_arguments() -> None:
    logits, targets = random_case()
    focal = make_loss("focal", WEIGHT, gamma=1.5, label_smoothing=0.1)
    entropy = make_loss("cross_entropy", WEIGHT, label_smoothing=0.1)
    soft_f1 = make_loss("soft_f1", WEIGHT)
    assert torch.equal(focal(logits, targets), focal_loss(logits, targets, 1.5, WEIGHT, 0.1))
    assert torch.equal(entropy(logits, targets), F.cross_entropy(logits, targets, WEIGHT, label_smoothing=0.1))
    assert torch.equal(soft_f1(logits, targets), soft_f1_loss(logits, targets))
    with pytest.raises(ValueError, match="unknown loss 'hinge'"):
        make_loss("hinge", None)


def test_class_weights_move_with_the_loss() -> None:
    loss: nn.Module = WeightedSum([make_loss("focal", WEIGHT), make_loss("cross_entropy", WEIGHT)], [1, 1])
    assert [buffer.dtype for buffer in loss.double().buffers()] == [torch.float64, torch.float64]


def test_the_expectation_loss_is_numpys_error_of_the_means() -> None:
    logits, targets = random_case(distribution=True)
    means = [np.average(np.arange(CLASSES), weights=row) for row in logits.double().softmax(dim=1).numpy()]
    wanted = [np.average(np.arange(CLASSES), weights=row) for row in targets.double().numpy()]
    expected = np.abs(np.subtract(means, wanted)).mean()
    assert expectation_loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)
    assert isinstance(make_loss("expectation", None), ExpectationLoss)
