"""A head normalises as torchvision does, takes bytes, shares and features alike, and leaves frozen stages unchanged."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import normalize

from heads.model.head import STAGES, Head, LastLayer, SumOfParts
from heads.objective.ordinal import CoralLayer

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture
def head() -> Head:
    return Head("resnet18", 3, dropout=0.5, mean=MEAN, std=STD)


def test_normalisation_inside_is_torchvisions(head: Head, pixels: Tensor) -> None:
    shares = pixels.float() / 255
    plain = Head("resnet18", 3).eval()
    plain.load_state_dict(head.state_dict() | {"mean": plain.mean, "std": plain.std})
    with torch.inference_mode():
        assert torch.equal(head.eval()(shares), plain(normalize(shares, MEAN, STD)))
        assert torch.equal(head(pixels), head(shares))
        assert torch.equal(head(pixels), head(head.features(pixels)))


@pytest.mark.parametrize("up_to", ["none", *STAGES, "all"])
def test_a_step_changes_weights_and_statistics_of_unfrozen_stages_only(up_to: str, head: Head, pixels: Tensor) -> None:
    head.freeze(up_to)
    head.eval().train()
    before = {key: tensor.clone() for key, tensor in head.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=0.1)
    nn.functional.cross_entropy(head(pixels), torch.tensor([0, 1, 2, 0])).backward()
    optimiser.step()
    moved = {key for key, tensor in head.state_dict().items() if not torch.equal(tensor, before[key])}
    stages = ["none", *STAGES, "all"]
    frozen = tuple(f"backbone.{m}." for stage in stages[1 : stages.index(up_to) + 1] for m in STAGES.get(stage, ()))
    assert moved == {key for key in before if not key.startswith(("mean", "std", *frozen))}


def test_the_features_checksum_is_that_of_backbone_and_normalisation(head: Head) -> None:
    first = head.features_checksum()
    with torch.no_grad():
        head.classifier[1].weight.add_(1)
    assert head.features_checksum() == first
    for tensor in (head.mean, head.backbone.get_buffer("layer3.0.bn1.running_var")):
        changed = head.features_checksum()
        tensor.add_(1)
        assert head.features_checksum() != changed


@pytest.mark.parametrize("last", [nn.Linear, partial(SumOfParts, [1, 3]), CoralLayer])
def test_an_activation_map_s_mean_and_the_bias_are_the_logit(last: LastLayer) -> None:
    head = Head("resnet18", 3, dropout=0.5, mean=MEAN, std=STD, last=last).eval()
    pixels = torch.randint(0, 256, (2, 3, 96, 64), dtype=torch.uint8)
    with torch.inference_mode():
        logits, maps = head.activation_maps(pixels)
        bias = head.classifier(torch.zeros(1, 64))
        assert maps.shape == (2, 3, 3, 2)
        torch.testing.assert_close(maps.mean(dim=(2, 3)) + bias, head(pixels), rtol=0, atol=1e-5)
        torch.testing.assert_close(logits, head(pixels), rtol=0, atol=1e-5)
        if last is nn.Linear:
            normal = normalize(pixels.float() / 255, MEAN, STD)
            [grid] = create_feature_extractor(head.backbone, ["layer4"])(normal).values()
            weighted = torch.einsum("of,nfhw->nohw", head.classifier[1].weight, grid)  # Zhou et al., equation 2
            torch.testing.assert_close(maps, weighted, rtol=0, atol=1e-5)


def test_the_softmax_of_summed_parts_is_the_product_of_their_softmaxes() -> None:
    layer = SumOfParts([3, 2, 3], 8, 18)
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    mask, gender, age = (logits.softmax(dim=1) for logits in layer.parts(features).split([3, 2, 3], dim=1))
    product = torch.einsum("nm,ng,na->nmga", mask, gender, age).flatten(1)
    assert torch.allclose(layer(features).softmax(dim=1), product, atol=1e-6)
    with pytest.raises(ValueError, match="combinations"):
        SumOfParts([3, 2], 8, 18)
