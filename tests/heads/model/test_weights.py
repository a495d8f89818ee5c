"""A backbone loads its weights from any common file, all or nothing; other networks are refused with the reason."""

import argparse
import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from data.runtime.errors import InputError
from heads.model.head import build_backbone
from heads.model.weights import fill_backbone, load_imagenet, read_tensors

State = dict[str, Tensor]


@pytest.fixture
def backbone() -> nn.Module:
    return build_backbone("resnet18")[0].eval()


def with_prefix(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def features(model: nn.Module, pixels: Tensor) -> Tensor:
    """What goes into torchvision's or timm's classifier."""
    model.fc = nn.Identity()
    with torch.inference_mode():
        return model.eval()(pixels.float() / 255)


def lightning(state: State) -> dict[str, Any]:
    """A Lightning checkpoint: the module's attribute before every name, and values of training."""
    tensors = with_prefix(state, "model.") | {"teacher.conv1.weight": torch.zeros(3)}
    callbacks = {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}}
    return {"state_dict": tensors, "hyper_parameters": {"data": Path("images")}, "callbacks": callbacks}


def full_training(state: State) -> dict[str, Any]:
    """A training script's checkpoint: weights beside optimiser, averaged weights and parsed arguments."""
    average = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).state_dict()
    others = {"args": argparse.Namespace(lr=0.1, out=Path("runs")), "best": np.float64(0.5)}
    return {"model": state, "model_ema": average, "optimizer": optimiser, **others}


def averaged(state: State, name: str, average: str) -> State:
    """The network's weights under a name, after averages of them under another one."""
    zeros = {f"{average}.{key}": torch.zeros_like(tensor) for key, tensor in state.items()}
    return zeros | with_prefix(state, f"{name}.")


WRITERS: dict[str, Callable[[nn.Module], Any]] = {
    "plain.safetensors": lambda model: model.state_dict(),
    "plain.pth": lambda model: model.state_dict(),
    "twice.pt": lambda model: {"model": {"net": model.state_dict()}, "optimizer": {}},
    "parallel.pth.tar": lambda model: {"state_dict": nn.DataParallel(copy.deepcopy(model)).state_dict()},
    "compiled.pt": lambda model: torch.compile(model).state_dict(),
    "compiled_blocks.pt": lambda model: {
        k.replace("layer2.", "layer2._orig_mod."): t for k, t in model.state_dict().items()
    },
    "lightning.ckpt": lambda model: lightning(model.state_dict()),
    "full.pt": lambda model: full_training(model.state_dict()),
    "averaged.pt": lambda model: averaged(model.state_dict(), "net", "ema_net.module"),
    "averaged_shorter.pt": lambda model: averaged(model.state_dict(), "encoder_q", "ema"),
    "averaged_as_long.pt": lambda model: averaged(model.state_dict(), "encoder_q", "encoder_k"),
    "children.bin": lambda model: nn.Sequential(*list(model.children())[:-1]).state_dict(),
    "encoder.pt": lambda model: nn.ModuleDict({"encoder": nn.Sequential(*list(model.children())[:-1])}).state_dict(),
    "before_0_4_1.pth": lambda model: {k: t for k, t in model.state_dict().items() if "num_batches" not in k},
    "other_classes.pt": lambda model: {1: torch.zeros(3), **model.state_dict(), "fc.weight": torch.zeros(18, 512)},
}


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_backbone_from_any_dialect_has_its_networks_features(
    name: str, half: bool, resnet18: nn.Module, backbone: nn.Module, pixels: Tensor, tmp_path: Path
) -> None:
    model = copy.deepcopy(resnet18)
    content = WRITERS[name](model.half() if half else model)
    save_file(content, tmp_path / name) if name.endswith("safetensors") else torch.save(content, tmp_path / name)
    report = fill_backbone(backbone, read_tensors(tmp_path / name), name)
    assert len(report.loaded) == (100 if name.startswith("before") else 120)
    assert {key.rpartition(".")[2] for key in report.missing} <= {"num_batches_tracked"}
    assert backbone.get_parameter("conv1.weight").dtype == torch.float32
    assert torch.equal(features(backbone, pixels), features(model.float(), pixels))


def test_timms_resnet18_is_loaded_as_it_is(backbone: nn.Module, pixels: Tensor) -> None:
    theirs = timm.create_model("resnet18.a1_in1k", pretrained=False)
    report = fill_backbone(backbone, theirs.state_dict() | {"head.weight": torch.zeros(3)}, "timm")
    assert str(report) == "120 tensors loaded, 3 unused, 0 missing; unused: fc.bias, fc.weight, head.weight"
    assert np.abs(features(backbone, pixels).numpy() - features(theirs, pixels).numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda state: state | {"bn1.weight": torch.zeros(7)},
            r"fits 119 of .*\(bn1\.weight is \[7\], expected \[64\]",
        ),
        (
            lambda state: {k: t for k, t in state.items() if not k.startswith("layer4.1.")},
            r"fits 108 of the backbone's 120 tensors \(missing layer4\.1\.conv1\.weight, .*match the file\?",
        ),
        (lambda state: {"fc.weight": state["fc.weight"]}, "fits 0 of the backbone's 120 tensors"),
        # resnet34 holds all that resnet18 has, under the same names and in the same shapes, and more.
        (lambda _: with_prefix(models.resnet34().state_dict(), "a."), r"a\.layer1\.2\.bn1.*match the file\?"),
        (
            lambda state: state | {"bn1.weight": torch.full((64,), torch.nan)},
            r"bn1\.weight: not finite, expected numbers",
        ),
        (lambda state: dict.fromkeys(("conv1.weight", "layer1.0.prelu.weight"), torch.zeros(1)), "IR kind"),
        (lambda state: {"module.body.0.res_layer.1.weight": torch.zeros(1)}, "IR kind"),
        (lambda state: timm.create_model("resnet18d").state_dict(), "stem of three convolutions"),
    ],
)
def test_other_tensors_are_refused_and_change_nothing(
    backbone: nn.Module, resnet18_state: State, change: Callable[[State], State], expected: str
) -> None:
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(InputError, match=rf"^x\.pt: .*{expected}"):
        fill_backbone(backbone, change(resnet18_state), "x.pt")
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())


class MakesAFolder:
    """A pickle that would run code when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("created",)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(
    tmp_path: Path, save: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save({"conv1.weight": MakesAFolder()}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"weights\.pt: not readable as tensors alone"):
        read_tensors(tmp_path / "weights.pt")
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.safetensors", b"not tensors", "not readable as safetensors"),
        ("a.pt", b"not tensors", "not readable as tensors alone"),
        ("a.pt", b"", "not readable as tensors alone"),
        ("a.zip", b"", r"found \.zip, expected one of \.safetensors, \.pt"),
        ("a", b"", "found no suffix, expected"),
        ("a.pt", None, "no such file"),
        ("a.pt", torch.zeros(3), "found a Tensor, expected tensors by name"),
        ("a.pt", nn.Linear(2, 2), r"holds a torch\.nn.*Linear; save its tensors: torch\.save\(model\.state_dict"),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(tmp_path: Path, name: str, content: Any, expected: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(InputError, match=f"^{tmp_path / name}: .*{expected}"):
        read_tensors(tmp_path / name)


def test_without_a_download_the_error_names_the_option(backbone: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = Mock(side_effect=OSError("no route to host"))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"no route to host.*--set backbone\.weights=FILE"):
        load_imagenet(backbone, "resnet18")


@pytest.mark.parametrize(("name", "size"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
def test_backbone_and_classifier_together_are_torchvisions_resnet(name: str, size: int, pixels: Tensor) -> None:
    torch.manual_seed(3)
    model, drawn = models.get_model(name, weights=None).eval(), torch.rand(1)
    torch.manual_seed(3)
    backbone, features = build_backbone(name)
    assert torch.rand(1) == drawn  # what is drawn next, such as the classifier, is as after torchvision's
    expected = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("fc.")}
    assert list(backbone.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in backbone.state_dict().items())
    backbone.eval()
    with torch.inference_mode():
        found = backbone(pixels.float())
        assert found.shape == (4, features) == (4, size)
        assert torch.equal(model.fc(found), model(pixels.float()))
