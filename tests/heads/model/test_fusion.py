"""A fuse_batch_norm head answers as the head does, for every backbone, and the head stays what it is."""

import pytest
import torch
from torch import Tensor, nn

from heads.model.backbones import BACKBONES
from heads.model.fusion import fuse_batch_norm
from heads.model.head import Head


def trained_like(backbone: str) -> Head:
    """A head whose batch norms have statistics and weights of their own."""
    head = Head(backbone, 3, hidden=[8], mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.3])
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return head.eval()


def norms(head: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in head.modules())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_folded_head_answers_as_the_head_does_without_batch_norm(backbone: str, pixels: Tensor) -> None:
    head = trained_like(backbone)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    other = fuse_batch_norm(head)
    with torch.inference_mode():
        found, expected = other(pixels).softmax(1), head(pixels).softmax(1)
    assert norms(head) > 0
    assert norms(other) == 0
    assert expected.std(dim=0).max() > 1e-4  # the answers depend on the pixels
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    for name, tensor in head.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_frozen_head_is_folded_as_any_other(pixels: Tensor) -> None:
    head = trained_like("resnet18")
    head.freeze("layer3")
    with torch.inference_mode():
        torch.testing.assert_close(
            fuse_batch_norm(head)(pixels).softmax(1), head(pixels).softmax(1), rtol=0, atol=1e-5
        )


def test_a_batch_norm_that_follows_no_convolution_stays() -> None:
    head = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)).eval()
    assert fuse_batch_norm(head) is head


def test_a_head_that_trains_is_folded_as_it_evaluates(pixels: Tensor) -> None:
    head = trained_like("resnet18")
    with torch.inference_mode():
        expected = head(pixels)
        torch.testing.assert_close(fuse_batch_norm(head.train())(pixels), expected, rtol=1e-4, atol=1e-5)
    assert head.training
