"""A head cut in two computes what the whole one does, wherever it is cut, and keeps its names."""

import pytest
import torch
from torch import Tensor, nn

from heads.model.backbones import STAGES
from heads.model.frozen_split import FrozenLayers, TrainedLayers
from heads.model.head import Head

CUTS = [*STAGES, "all"]


def unlike_the_first(head: Head) -> Head:
    """Batch statistics that change what comes out, as those of a trained head."""
    for name, buffer in head.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return head


@pytest.mark.parametrize("up_to", CUTS)
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50_keras_2_1"])
def test_both_halves_make_the_whole(backbone: str, up_to: str, pixels: Tensor) -> None:
    head = unlike_the_first(Head(backbone, 3, hidden=[8], dropout=0.5, mean=[0.4] * 3, std=[0.2] * 3))
    head.freeze(up_to)
    head.eval()
    with torch.inference_mode():
        features = FrozenLayers(head, up_to)(pixels)
        answers = TrainedLayers(head, up_to)(features)
        assert torch.allclose(answers, head(pixels), atol=1e-5)
    assert features.ndim == (2 if up_to in ("layer4", "all") else 4)


@pytest.mark.parametrize("up_to", ["layer2", "all"])
def test_a_step_of_the_second_half_is_the_head_s_own(up_to: str, pixels: Tensor) -> None:
    """Batch norm above the cut learns from the batch, batch norm below it stays, in one as in the other."""
    states = []
    for cut in (False, True):
        torch.manual_seed(3)
        head = unlike_the_first(Head("resnet18", 3))
        head.freeze(up_to)
        learned = TrainedLayers(head, up_to) if cut else head
        shown = FrozenLayers(head, up_to)(pixels).detach() if cut else pixels
        learned.train()
        optimiser = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=0.1)
        nn.functional.cross_entropy(learned(shown), torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()
        states.append(learned.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-5), name


def test_the_checksum_is_that_of_the_frozen_part_alone() -> None:
    head = Head("resnet18", 3)
    before = FrozenLayers(head, "layer3").checksum()
    with torch.no_grad():
        head.backbone.get_parameter("layer4.0.conv1.weight").add_(1)
        head.classifier[1].weight.add_(1)
    assert FrozenLayers(head, "layer3").checksum() == before
    whole = FrozenLayers(head, "all").checksum()
    with torch.no_grad():
        head.backbone.get_buffer("layer3.0.bn1.running_var").add_(1)
    assert FrozenLayers(head, "layer3").checksum() != before
    assert FrozenLayers(head, "all").checksum() != whole
