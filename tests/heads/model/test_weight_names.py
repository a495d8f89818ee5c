"""Files as other programs write them fill the backbone with the same tensors, or are refused with the reason."""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from data.runtime.errors import InputError
from heads.model.backbones import build_backbone, fill_backbone, load_backbone

State = dict[str, Tensor]


def compiled(model: nn.Module) -> State:
    return torch.compile(model).state_dict()


def compiled_blocks(model: nn.Module) -> State:
    """As where each stage was compiled alone: the prefix stands within the names."""
    return {name.replace("layer2.", "layer2._orig_mod."): t for name, t in model.state_dict().items()}


def parallel(model: nn.Module) -> State:
    # A copy: where there is a GPU, it moves what it is given there.
    return nn.DataParallel(copy.deepcopy(model)).state_dict()


def lightning(model: nn.Module) -> dict[str, Any]:
    """A Lightning checkpoint: the module's attributes before every name, and all that belongs to training."""
    state = {f"model.{name}": t for name, t in model.state_dict().items()}
    return {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state | {"metric.total": torch.zeros(1), "teacher.conv1.weight": torch.zeros(3)},
        "hyper_parameters": {"lr": 1e-3, "data": Path("photographs")},
        "optimizer_states": [torch.optim.AdamW(model.parameters()).state_dict()],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
    }


def full_training(model: nn.Module) -> dict[str, Any]:
    """A training script's checkpoint: weights beside optimiser, averaged weights and parsed arguments."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sum(p.sum() for p in model.parameters()).backward()
    optimiser.step()
    model.zero_grad()
    return {
        "epoch": 9,
        "arch": "resnet18",
        "model": model.state_dict(),
        "model_ema": {name: torch.zeros_like(t) for name, t in model.state_dict().items()},
        "optimizer": optimiser.state_dict(),
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "best": 0.5,
    }


def averaged_beside(model: nn.Module) -> State:
    own = {f"net.{name}": t for name, t in model.state_dict().items()}
    return own | {f"ema_net.module.{name}": torch.zeros_like(t) for name, t in model.state_dict().items()}


def averaged_beside_by_a_shorter_name(model: nn.Module) -> State:
    own = {f"encoder_q.{name}": t for name, t in model.state_dict().items()}
    shorter = {f"ema.{name}": torch.zeros_like(t) for name, t in model.state_dict().items()}
    return shorter | own | {name.replace("_q", "_k"): torch.zeros_like(t) for name, t in own.items()}


WRITERS: dict[str, Callable[[nn.Module], Any]] = {
    "torchvision.pth": lambda model: model.state_dict(),
    "parallel.pth.tar": lambda model: {"state_dict": parallel(model)},
    "compiled.pt": compiled,
    "compiled_parallel.pt": lambda model: parallel(torch.compile(model)),
    "compiled_blocks.pt": compiled_blocks,
    "lightning.ckpt": lightning,
    "full.pt": full_training,
    "averaged.pt": averaged_beside,
    "averaged_shorter.pt": averaged_beside_by_a_shorter_name,
    "children.bin": lambda model: nn.Sequential(*list(model.children())[:-1]).state_dict(),
    "encoder.pt": lambda model: {f"encoder.{k}": v for k, v in list_children(model).items()},
}


def list_children(model: nn.Module) -> State:
    return nn.Sequential(*list(model.children())[:-1]).state_dict()


@pytest.fixture
def model() -> nn.Module:
    """A resnet18 of torchvision with random statistics; it may be changed."""
    net = models.resnet18(weights=None)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return net


def features(model: nn.Module, pixels: Tensor) -> Tensor:
    """What stands before torchvision's or timm's classifier."""
    model.fc = nn.Identity()
    with torch.inference_mode():
        return model.eval()(pixels.float() / 255)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_backbone_from_any_dialect_gives_its_network_s_features(
    name: str, half: bool, model: nn.Module, pixels: Tensor, tmp_path: Path
) -> None:
    content = WRITERS[name](model.half() if half else model)
    torch.save(content, tmp_path / name)
    backbone, _ = build_backbone("resnet18")
    report = load_backbone(backbone, tmp_path / name)
    (tmp_path / name).unlink()
    assert len(report.taken) == 120
    assert torch.equal(features(backbone, pixels), features(model.float(), pixels))


def test_timm_s_resnet18_is_taken_as_it_is(pixels: Tensor) -> None:
    theirs = timm.create_model("resnet18.a1_in1k", pretrained=False)
    backbone, _ = build_backbone("resnet18")
    fill_backbone(backbone, theirs.state_dict(), "timm")
    assert np.abs(features(backbone, pixels).numpy() - features(theirs, pixels).numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (
            ("conv1.weight", "bn1.weight", "prelu.weight", "layer1.0.bn1.weight", "layer1.0.prelu.weight"),
            "IR kind",
        ),
        (("module.input_layer.0.weight", "module.body.0.res_layer.1.weight"), "IR kind"),
        (tuple(timm.create_model("resnet18d", pretrained=False).state_dict()), "stem of three convolutions"),
    ],
    ids=["iresnet", "ir", "resnet18d"],
)
def test_networks_that_only_resemble_a_resnet_are_refused_by_name(names: tuple[str, ...], reason: str) -> None:
    backbone, _ = build_backbone("resnet18")
    with pytest.raises(InputError, match=rf"x\.pt: found .*{reason}"):
        fill_backbone(backbone, dict.fromkeys(names, torch.zeros(1)), "x.pt")
