"""A head with fused batch norm predicts as the head does, for every backbone, and the head is not changed."""

import pytest
import torch
from torch import Tensor, nn

from heads.model.fusion import fuse_batch_norm
from heads.model.head import BACKBONES, Head


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_fused_head_predicts_as_the_head_does_without_batch_norm(backbone: str, pixels: Tensor) -> None:
    head = Head(backbone, 3, hidden=[8], mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.3])
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):  # as a trained head has them
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    head.freeze("layer3")
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    fused = fuse_batch_norm(head.train())
    assert head.training
    with torch.inference_mode():
        found, expected = fused(pixels).softmax(1), head.eval()(pixels).softmax(1)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert expected.std(dim=0).max() > 1e-4  # the answers depend on the pixels
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())
