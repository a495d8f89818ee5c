"""Heads computed together give the bits of each alone, and compute equal layers once."""

from collections import Counter

import pytest
import torch
from torch import nn

from heads.model.fusion import fuse_batch_norm
from heads.model.head import STAGES, Head
from heads.model.shared import SharedHeads

MEAN = (0.4, 0.4, 0.4)


def make_head(equal: str, outputs: int, seed: int, mean: tuple[float, ...] = MEAN) -> Head:
    """A random head that has the same stages as all others up to `equal`."""
    torch.manual_seed(0)
    head = Head("resnet18", outputs, mean=mean)
    torch.manual_seed(seed)
    for stage in [*STAGES][[*STAGES].index(equal) + 1 :]:
        for name in STAGES[stage]:
            for module in head.backbone.get_submodule(name).modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)
    nn.init.normal_(head.classifier[-1].weight)
    return head.eval().to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def heads() -> list[Head]:
    one, other, deep = make_head("layer1", 3, 1), make_head("layer1", 2, 2), make_head("layer4", 4, 3)
    near = make_head("layer4", 2, 4)
    near.backbone.layer1[0].bn1.running_mean[5] += 1e-6  # the same but for one number
    return [
        one,
        other,
        make_head("layer2", 5, 5),
        deep,
        make_head("layer4", 2, 6),
        near,
        make_head("layer4", 2, 7, (0, 0, 0)),
    ]


@torch.inference_mode()
@pytest.mark.parametrize("fused", [False, True])
def test_shared_heads_give_the_bits_of_each_alone(fused: bool, heads: list[Head]) -> None:
    every = [fuse_batch_norm(head) if fused else head for head in heads]
    shared = SharedHeads([*every, nn.Flatten()])
    pixels = torch.rand(4, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    expected = [head(pixels) for head in [*every, nn.Flatten()]]
    for places in (None, [6, 0], [3, 4], [1], [7, 2]):
        for place, found in zip(range(8) if places is None else places, shared(pixels, places), strict=True):
            assert torch.equal(found, expected[place])
    views = [2, 1, 2, 1, 1, 2, 2, 1]  # of two views of two images
    for found, whole, count in zip(shared(pixels, views=views, images=2), expected, views, strict=True):
        torch.testing.assert_close(found, whole[: 2 * count])


@torch.inference_mode()
def test_equal_layers_are_computed_once(heads: list[Head]) -> None:
    calls = Counter[str]()
    for head in heads:
        for stage, names in STAGES.items():
            head.backbone.get_submodule(names[0]).register_forward_hook(lambda *_, s=stage: calls.update([s]))
    pixels = torch.rand(1, 3, 48, 40)
    SharedHeads(heads)(pixels)
    assert calls == {"stem": 2, "layer1": 3, "layer2": 5, "layer3": 6, "layer4": 6}
    calls.clear()
    SharedHeads(heads, share=False)(pixels)
    assert set(calls.values()) == {len(heads)}
