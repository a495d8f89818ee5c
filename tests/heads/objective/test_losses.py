"""Losses are PyTorch's, torchvision's, scikit-learn's and coral-pytorch's where they have them, else formulas."""

import numpy as np
import pytest
import torch
from coral_pytorch.dataset import levels_from_labelbatch
from coral_pytorch.losses import coral_loss as published_coral
from coral_pytorch.losses import corn_loss as published_corn
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from heads.objective.losses import (
    TaughtLoss,
    WeightedSum,
    distillation_loss,
    expectation_loss,
    focal_loss,
    make_loss,
    soft_f1_loss,
)
from heads.objective.ordinal import coral_loss, corn_loss

ROWS, CLASSES = 40, 5
WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.5, 7.0])


def random_case(distribution: bool = False, outputs: int = CLASSES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, outputs, generator=generator) * 4
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
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)), rtol=0, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_of_two_classes_is_torchvisions_sigmoid_focal_loss(gamma: float) -> None:
    # Two logits (0, z) have the probabilities that a sigmoid has of z.
    z = torch.linspace(-6, 6, 25)
    answers = torch.arange(25) % 2
    ours = focal_loss(torch.stack([torch.zeros_like(z), z], dim=1), answers, gamma)
    theirs = sigmoid_focal_loss(z, answers.float(), alpha=-1, gamma=gamma, reduction="mean")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_focal_of_a_known_probability_is_the_papers_formula() -> None:
    p, target = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.5, 0.0])
    logits = torch.tensor(np.log(p)).repeat(2, 1)
    weight = torch.tensor([2.0, 1.0, 5.0], dtype=torch.float64)
    terms = -((1 - p) ** 2) * np.log(p)
    expected = (2 * terms[0] + 5 * terms[2]) / (2 + 5)
    assert focal_loss(logits, torch.tensor([0, 2]), 2.0, weight).item() == pytest.approx(expected)
    assert focal_loss(logits[:1], torch.tensor(target)[None]).item() == pytest.approx((target * terms).sum())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [1e-6, 30.0, 200.0, 1e4])
@pytest.mark.parametrize("distribution", [False, True], ids=["index", "distribution"])
def test_gradients_of_any_logits_are_finite(gamma: float, size: float, distribution: bool) -> None:
    logits = torch.tensor([[size, 0.0, -size], [-size, 0.0, size]], requires_grad=True)
    targets = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]) if distribution else torch.tensor([0, 0])
    for loss in (focal_loss(logits, targets, gamma), soft_f1_loss(logits, targets)):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(torch.stack([loss, *gradient.flatten()])).all()


@pytest.mark.parametrize("absent", [-1, 3])
def test_soft_f1_of_certain_answers_is_scikit_learns_macro_f1(absent: int) -> None:
    logits, targets = (values[random_case()[1] != absent] for values in random_case())
    answers = logits.argmax(dim=1)
    certain = F.one_hot(answers, CLASSES) * 1e3
    present = np.unique(targets)
    expected = 1 - f1_score(targets, answers, labels=present, average="macro", zero_division=0)
    for each in (targets, F.one_hot(targets, CLASSES).float()):
        assert soft_f1_loss(certain.float(), each).item() == pytest.approx(expected, abs=1e-6)


def test_the_expectation_loss_is_numpys_error_of_the_means() -> None:
    logits, targets = random_case(distribution=True)
    means = [np.average(np.arange(CLASSES), weights=row) for row in logits.double().softmax(dim=1).numpy()]
    wanted = [np.average(np.arange(CLASSES), weights=row) for row in targets.double().numpy()]
    expected = np.abs(np.subtract(means, wanted)).mean()
    assert expectation_loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_ordinal_losses_are_the_published_ones() -> None:
    logits, targets = random_case(outputs=CLASSES - 1)
    levels = levels_from_labelbatch(targets, num_classes=CLASSES)
    assert coral_loss(logits, targets).item() == pytest.approx(published_coral(logits, levels).item(), rel=1e-5)
    assert corn_loss(logits, targets).item() == pytest.approx(published_corn(logits, targets, CLASSES).item(), rel=1e-5)


@pytest.mark.parametrize("function", [coral_loss, corn_loss])
def test_an_ordinal_loss_counts_a_row_as_often_as_its_weight(function) -> None:
    logits, targets = random_case(outputs=CLASSES - 1)
    weight = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0])
    repeated = torch.repeat_interleave(torch.arange(len(targets)), weight[targets].long())
    expected = function(logits[repeated], targets[repeated])
    assert function(logits, targets, weight).item() == pytest.approx(expected.item(), rel=1e-5)


def test_losses_by_name_are_the_functions_with_their_arguments() -> None:
    logits, targets = random_case()
    entropy = make_loss("cross_entropy", label_smoothing=0.1)(logits, targets, WEIGHT)
    assert torch.equal(entropy, F.cross_entropy(logits, targets, WEIGHT, label_smoothing=0.1))
    for name, function in (("coral", coral_loss), ("corn", corn_loss)):
        assert torch.equal(make_loss(name)(logits[:, 1:], targets, WEIGHT), function(logits[:, 1:], targets, WEIGHT))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_distillation_is_hintons_loss_of_the_rows_with_a_teacher(temperature: float) -> None:
    logits, wanted = random_case(distribution=True)
    logits.requires_grad_()
    soft = (wanted.log() / temperature).softmax(dim=1)
    entropy = F.cross_entropy(logits / temperature, soft) * temperature**2  # the paper's, with the teacher's constant
    constant = -(soft * soft.log()).sum(dim=1).mean() * temperature**2
    value = distillation_loss(logits, wanted, temperature)
    assert value.item() == pytest.approx((entropy - constant).item(), rel=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (value, entropy)))
    assert distillation_loss(wanted.log() + 7, wanted, temperature).item() == pytest.approx(0, abs=1e-6)
    known = torch.arange(ROWS) % 3 > 0
    part = distillation_loss(logits, wanted * known[:, None], temperature)
    assert part.item() == pytest.approx(distillation_loss(logits[known], wanted[known], temperature).item())
    assert distillation_loss(logits, wanted * 0).item() == 0


def test_a_teacher_of_classes_is_held_against_sums_over_numbers() -> None:
    logits, wanted = random_case(distribution=True)[0], torch.tensor([[0.25, 0.75]]).repeat(ROWS, 1)
    pool = torch.tensor([0, 0, 1, 1, 1])
    p = logits.softmax(dim=1)
    classes = torch.stack([p[:, :2].sum(dim=1), p[:, 2:].sum(dim=1)], dim=1)
    expected = distillation_loss(classes.log(), wanted, 2.0)
    assert distillation_loss(logits, wanted, 2.0, pool).item() == pytest.approx(expected.item(), rel=1e-5)
    far = (logits * 1e3).requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(far, wanted, 2.0, pool), far)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("distribution", [False, True], ids=["indices", "distributions"])
def test_labels_and_teacher_each_count_the_images_that_have_them(distribution: bool) -> None:
    logits, targets = random_case(distribution)
    teacher, labels = random_case(distribution=True)[1], targets if distribution else F.one_hot(targets, CLASSES)
    labelled, taught = torch.arange(ROWS) % 3 > 0, torch.arange(ROWS) % 4 > 0
    joined = torch.cat([labels * labelled[:, None], teacher * taught[:, None]], dim=1).float()
    plain = WeightedSum([make_loss("focal")], [0.75], WEIGHT)
    loss = TaughtLoss(plain, 0.5, 2.0, torch.arange(CLASSES), not distribution)
    of_teacher = 0.5 * distillation_loss(logits[taught], teacher[taught], 2.0)
    embeddings, wide = torch.randn(ROWS, 7), torch.randn(ROWS, 7)
    loss_of_embeddings = TaughtLoss(plain, 0.5, None, torch.arange(CLASSES), not distribution)
    expected = plain(logits[labelled], targets[labelled]) + 0.5 * F.mse_loss(wide[taught], embeddings[taught])
    beside = torch.cat([labels * labelled[:, None], embeddings * taught[:, None]], dim=1).float()
    assert loss_of_embeddings(torch.cat([logits, wide], dim=1), beside).item() == pytest.approx(
        expected.item(), rel=1e-6
    )
    expected = plain(logits[labelled], targets[labelled]) + of_teacher
    assert loss(logits, joined).item() == pytest.approx(expected.item(), rel=1e-6)
    joined[:, :CLASSES] = 0
    assert loss(logits, joined).item() == pytest.approx(of_teacher.item(), rel=1e-6)
