"""CORAL's and CORN's logits become class probabilities, in PyTorch and as ONNX."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from coral_pytorch.dataset import corn_label_from_logits
from coral_pytorch.layers import CoralLayer as PublishedLayer
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from heads.export.graph import write_onnx
from heads.objective.ordinal import CoralLayer, coral_probabilities, corn_probabilities

LOGITS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)) * 3


def test_the_number_of_probable_corn_answers_is_the_published_label() -> None:
    above = corn_probabilities(LOGITS).flip(1).cumsum(1).flip(1)[:, 1:]
    assert torch.equal((above > 0.5).sum(dim=1), corn_label_from_logits(LOGITS))


@pytest.mark.parametrize("function", [coral_probabilities, corn_probabilities])
@given(values=st.lists(st.floats(-60, 60), min_size=1, max_size=6))
def test_probabilities_are_not_negative_and_sum_to_one(function, values: list[float]) -> None:
    p = function(torch.tensor([values]))
    assert p.shape == (1, len(values) + 1)
    assert (p >= 0).all()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)


def test_the_coral_layer_is_the_published_one() -> None:
    ours, published = CoralLayer(8, 4), PublishedLayer(8, 5)
    with torch.no_grad():
        published.coral_weights.weight.copy_(ours.weight.weight)
        published.coral_bias.copy_(ours.bias)
    features = torch.randn(10, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(features), published(features))


@pytest.mark.parametrize("function", [coral_probabilities, corn_probabilities])
def test_probabilities_are_the_same_as_onnx(function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    path, graph = tmp_path / "graph.onnx", type("Graph", (nn.Module,), {"forward": staticmethod(function)})()
    write_onnx(path, graph, ["probabilities"], "logits", LOGITS, ("n",))
    [found] = onnxruntime.InferenceSession(path).run(None, {"logits": LOGITS[:3].numpy()})
    np.testing.assert_allclose(found, function(LOGITS[:3]).numpy(), atol=1e-6)
