"""A head normalises as torchvision does, takes bytes and shares alike, and keeps frozen stages still."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from heads.model.backbones import fill_backbone
from heads.model.head import Head, SumOfParts, make_classifier

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture
def head(resnet18_state: dict[str, Tensor]) -> Head:
    head = Head("resnet18", 3, dropout=0.5, mean=MEAN, std=STD)
    fill_backbone(head.backbone, resnet18_state, "resnet18")
    return head


def test_normalisation_inside_is_torchvisions(head: Head, pixels: Tensor) -> None:
    shares = pixels.float() / 255
    plain = Head("resnet18", 3).eval()
    plain.load_state_dict(head.state_dict() | {"mean": plain.mean, "std": plain.std})
    with torch.inference_mode():
        assert torch.equal(head.eval()(shares), plain(normalize(shares, MEAN, STD)))


def test_bytes_and_shares_give_the_same_logits(head: Head, pixels: Tensor) -> None:
    with torch.inference_mode():
        logits = head.eval()(pixels)
        assert torch.equal(logits, head(pixels.float() / 255))
    assert logits.shape == (4, 3)


def test_a_images_logits_do_not_depend_on_its_batch(head: Head, pixels: Tensor) -> None:
    head.eval()
    with torch.inference_mode():
        alone = torch.cat([head(pixels[row : row + 1]) for row in range(len(pixels))])
        assert torch.allclose(alone, head(pixels), atol=1e-4)


def test_dropout_acts_in_training_alone(head: Head) -> None:
    features = torch.ones(1, 512)
    first, second = head.classifier(features), head.classifier(features)
    assert not torch.equal(first, second)
    head.eval()
    assert torch.equal(head.classifier(features), head.classifier(features))


def test_a_classifier_is_dropout_and_linear_layers_with_relu_between() -> None:
    layers = make_classifier(512, 3, [128, 64], 0.3)
    kinds = [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    shapes = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert shapes == [(512, 128), (128, 64), (64, 3)]
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout)} == {0.3}


def test_frozen_stages_keep_weights_and_statistics_while_the_others_move(head: Head, pixels: Tensor) -> None:
    head.freeze("layer2")
    head.train()
    before = {key: tensor.clone() for key, tensor in head.state_dict().items()}
    head(pixels).square().sum().backward()
    torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=0.1).step()
    moved = {key for key, tensor in head.state_dict().items() if not torch.equal(tensor, before[key])}
    still = ("mean", "std", "backbone.conv1", "backbone.bn1", "backbone.layer1", "backbone.layer2")
    assert moved == {key for key in before if not key.startswith(still)}


def test_an_eval_and_train_round_trip_keeps_frozen_batch_norm_in_eval_mode(head: Head) -> None:
    head.freeze("stem")
    head.eval().train()
    assert not head.backbone.get_submodule("bn1").training
    assert head.backbone.get_submodule("layer1.0.bn1").training
    assert head.classifier.training


def test_the_softmax_of_summed_parts_is_the_product_of_their_softmaxes() -> None:
    layer = SumOfParts([3, 2, 3], 8, 18)
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    mask, gender, age = (logits.softmax(dim=1) for logits in layer.parts(features).split([3, 2, 3], dim=1))
    product = torch.einsum("nm,ng,na->nmga", mask, gender, age).flatten(1)
    assert torch.allclose(layer(features).softmax(dim=1), product, atol=1e-6)
    with pytest.raises(ValueError, match="combinations"):
        SumOfParts([3, 2], 8, 18)
