"""CORAL and CORN are the published losses (coral-pytorch, by their authors) and give probabilities."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from coral_pytorch.dataset import corn_label_from_logits, levels_from_labelbatch
from coral_pytorch.losses import coral_loss as published_coral
from coral_pytorch.losses import corn_loss as published_corn
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from heads.export.graph import write_onnx
from heads.objective.ordinal import (
    OrdinalLoss,
    SharedWeights,
    coral_loss,
    coral_probabilities,
    corn_loss,
    corn_probabilities,
)

CLASSES = 5


def random_case(rows: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, CLASSES - 1, generator=generator) * 3
    return logits, torch.randint(CLASSES, (rows,), generator=generator)


def test_coral_is_the_published_loss() -> None:
    logits, targets = random_case()
    levels = levels_from_labelbatch(targets, num_classes=CLASSES)
    assert coral_loss(logits, targets).item() == pytest.approx(published_coral(logits, levels).item(), rel=1e-5)


def test_corn_is_the_published_loss() -> None:
    logits, targets = random_case()
    assert corn_loss(logits, targets).item() == pytest.approx(
        published_corn(logits, targets, CLASSES).item(), rel=1e-5
    )


@pytest.mark.parametrize("function", [coral_loss, corn_loss])
def test_a_weight_counts_a_row_as_often(function) -> None:
    logits, targets = random_case()
    weight = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0])
    repeated = torch.repeat_interleave(torch.arange(len(targets)), weight[targets].long())
    assert function(logits, targets, weight).item() == pytest.approx(
        function(logits[repeated], targets[repeated]).item(), rel=1e-5
    )


def test_corns_likeliest_number_of_yes_is_the_published_label() -> None:
    logits, _ = random_case()
    above = corn_probabilities(logits).flip(1).cumsum(1).flip(1)[:, 1:]
    assert torch.equal((above > 0.5).sum(dim=1), corn_label_from_logits(logits))


@pytest.mark.parametrize("function", [coral_probabilities, corn_probabilities])
@given(values=st.lists(st.floats(-60, 60), min_size=1, max_size=6))
def test_probabilities_are_not_negative_and_sum_to_one(function, values: list[float]) -> None:
    p = function(torch.tensor([values]))
    assert p.shape == (1, len(values) + 1)
    assert (p >= 0).all()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)


def test_shared_weights_order_the_questions_alike_for_all_rows() -> None:
    layer = SharedWeights(8, 4)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([2.0, 1.0, 0.0, -1.0]))
    logits = layer(torch.randn(10, 8, generator=torch.Generator().manual_seed(1)))
    assert np.allclose(logits.diff(dim=1).detach().numpy(), -1, atol=1e-5)


def test_the_module_is_the_function() -> None:
    logits, targets = random_case()
    weight = torch.rand(CLASSES, generator=torch.Generator().manual_seed(2)) + 0.1
    assert torch.equal(OrdinalLoss("corn", weight)(logits, targets), corn_loss(logits, targets, weight))
    assert torch.equal(OrdinalLoss("coral")(logits, targets), coral_loss(logits, targets))


class Answered(nn.Module):
    """Probabilities of logits, as a graph."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor) -> Tensor:
        return self.function(logits)


@pytest.mark.parametrize("function", [coral_probabilities, corn_probabilities])
def test_probabilities_are_the_same_as_onnx(function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    logits, _ = random_case()
    path = tmp_path / "graph.onnx"
    write_onnx(path, Answered(function), ["probabilities"], "logits", logits, ("n",))
    [found] = onnxruntime.InferenceSession(path).run(None, {"logits": logits[:3].numpy()})
    np.testing.assert_allclose(found, function(logits[:3]).numpy(), atol=1e-6)
