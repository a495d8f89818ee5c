"""A backbone takes its weights from any common file, says what it took, and takes all or nothing."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from data.runtime.errors import InputError
from heads.model.backbones import (
    STAGES,
    build_backbone,
    fill_backbone,
    freeze,
    load_backbone,
    load_imagenet,
    read_tensors,
)

State = dict[str, Tensor]
FC = ("fc.bias", "fc.weight")


@pytest.fixture
def backbone() -> nn.Module:
    return build_backbone("resnet18")[0].eval()


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def without_fc(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if key not in FC}


def test_backbone_and_fc_together_are_torchvisions_resnet18(
    backbone: nn.Module, resnet18: nn.Module, resnet18_state: State, pixels: Tensor
) -> None:
    fill_backbone(backbone, resnet18_state, "resnet18")
    with torch.inference_mode():
        features = backbone(pixels.float())
        assert features.shape == (4, 512)
        assert torch.equal(resnet18.get_submodule("fc")(features), resnet18(pixels.float()))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "trunk.", "module.model.backbone."])
def test_any_prefix_is_understood_and_the_report_tells_what_was_left(
    backbone: nn.Module, resnet18_state: State, prefix: str
) -> None:
    state = {prefix + key: tensor for key, tensor in resnet18_state.items()}
    report = fill_backbone(backbone, state | {"head.weight": torch.zeros(3)}, "x.pt")
    assert same(backbone.state_dict(), without_fc(resnet18_state))
    assert set(report.taken) == without_fc(resnet18_state).keys()
    assert report.left == tuple(sorted(["head.weight", *(prefix + name for name in FC)]))
    assert report.missing == ()
    assert str(report).startswith("120 tensors taken, 3 left, 0 missing; left: ")


def test_any_classifier_shape_is_left_alone(backbone: nn.Module, resnet18_state: State) -> None:
    state = resnet18_state | {"fc.weight": torch.zeros(18, 512), "fc.bias": torch.zeros(18)}
    assert fill_backbone(backbone, state, "x.pt").left == FC
    assert fill_backbone(backbone, without_fc(resnet18_state), "x.pt").left == ()


def test_counters_that_old_files_lack_are_reported_missing(backbone: nn.Module, resnet18_state: State) -> None:
    state = {key: tensor for key, tensor in resnet18_state.items() if not key.endswith("num_batches_tracked")}
    report = fill_backbone(backbone, state, "old.pth")
    assert len(report.taken) == 100
    assert len(report.missing) == 20
    assert all(name.endswith("num_batches_tracked") for name in report.missing)


SAVERS: dict[str, Callable[[State, Path], None]] = {
    "plain.safetensors": lambda state, path: save_file(state, path),
    "plain.pth": lambda state, path: torch.save(state, path),
    "nested.pt": lambda state, path: torch.save({"epoch": 3, "state_dict": OrderedDict(state)}, path),
    "twice.pt": lambda state, path: torch.save({"model": {"net": state}, "optimizer": {}}, path),
}


@pytest.mark.parametrize("name", SAVERS)
def test_half_precision_files_fill_a_single_precision_backbone(
    backbone: nn.Module, resnet18_state: State, tmp_path: Path, name: str
) -> None:
    half = {key: t.half() if t.is_floating_point() else t for key, t in resnet18_state.items()}
    SAVERS[name](half, tmp_path / name)
    report = load_backbone(backbone, tmp_path / name)
    (tmp_path / name).unlink()  # 23 MB that pytest would keep
    assert len(report.taken) == 120
    filled = backbone.state_dict()
    assert filled["conv1.weight"].dtype == torch.float32
    assert same(filled, {k: t.to(filled[k].dtype) for k, t in without_fc(half).items()})


def reshaped(state: State) -> State:
    return state | {"layer3.0.conv1.weight": torch.zeros(7, 7)}


def without_layer4(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if not key.startswith("layer4.1.")}


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (
            reshaped,
            "fits 119 of the backbone's 120 tensors (layer3.0.conv1.weight is [7, 7], expected [256, 128, 3",
        ),
        (without_layer4, "fits 108 of the backbone's 120 tensors (missing layer4.1.conv1.weight, "),
        (lambda state: {"fc.weight": state["fc.weight"]}, "fits 0 of the backbone's 120 tensors"),
        (lambda state: {}, "fits 0 of the backbone's 120 tensors"),
    ],
    ids=["another shape", "a part", "no backbone", "nothing"],
)
def test_less_than_the_backbone_is_refused_and_changes_nothing(
    backbone: nn.Module, resnet18_state: State, break_it: Callable[[State], State], expected: str
) -> None:
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(InputError) as raised:
        fill_backbone(backbone, break_it(resnet18_state), "x.pt")
    assert f"x.pt: {expected}" in str(raised.value)
    assert "does backbone.name match the file?" in str(raised.value)
    assert same(backbone.state_dict(), before)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_deeper_backbone_is_refused_although_it_has_every_tensor(backbone: nn.Module, prefix: str) -> None:
    # resnet34 holds all that resnet18 has, under the same names and in the same shapes, and more.
    deeper = {prefix + key: tensor for key, tensor in models.resnet34(weights=None).state_dict().items()}
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(InputError, match=r"x\.pt: .*layer1\.2\.bn1.*does backbone\.name match the file\?"):
        fill_backbone(backbone, deeper, "x.pt")
    assert same(backbone.state_dict(), before)


class WritesAFile:
    """A pickle that would run code when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, save: Any) -> None:
    trap, path = tmp_path / "created", tmp_path / "weights.pt"
    save({"conv1.weight": WritesAFile(trap)}, path)
    with pytest.raises(InputError, match=r"weights\.pt: not readable as tensors alone"):
        read_tensors(path)
    assert not trap.exists()


def test_a_whole_module_is_told_how_to_be_saved(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(InputError) as raised:
        read_tensors(tmp_path / "model.pt")
    assert str(raised.value) == (
        f"{tmp_path / 'model.pt'}: not readable as tensors alone, and nothing else is run: holds a "
        "torch.nn.modules.linear.Linear; save its tensors: torch.save(model.state_dict(), FILE)"
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.safetensors", b"not tensors", "not readable as safetensors"),
        ("a.pt", b"not tensors", "not readable as tensors alone"),
        ("a.pt", b"", "not readable as tensors alone"),
        ("a.zip", b"", "found .zip, expected one of .safetensors, .pt"),
        ("a", b"", "found no suffix, expected"),
        ("a.pt", None, "no such file"),
    ],
)
def test_an_unreadable_file_is_told_by_its_name(
    tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_tensors(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name}: {expected}")


def test_a_file_of_one_bare_tensor_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    with pytest.raises(InputError, match="found a Tensor, expected tensors by name"):
        read_tensors(tmp_path / "a.pt")


def test_without_a_download_the_error_names_the_option(
    backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"no route to host.*--set backbone\.weights=FILE"):
        load_imagenet(backbone, "resnet18")


@pytest.mark.parametrize("up_to", ["none", *STAGES, "all"])
def test_freezing_stops_gradients_up_to_its_stage(backbone: nn.Module, up_to: str) -> None:
    freeze(backbone, up_to)
    stages = list(STAGES)
    last = {"none": 0, "all": len(stages)}.get(up_to, stages.index(up_to) + 1 if up_to in stages else 0)
    frozen = {name for stage in stages[:last] for name in STAGES[stage]}
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (name.split(".")[0] not in frozen), name


@pytest.mark.parametrize(("name", "features"), [("resnet34", 512), ("resnet50", 2048)])
def test_other_backbones_go_by_name(name: str, features: int, pixels: Tensor) -> None:
    backbone, told = build_backbone(name)
    with torch.inference_mode():
        assert backbone.eval()(pixels[:1].float()).shape == (1, features)
    assert told == features


def test_weights_that_are_no_numbers_are_refused_by_name(resnet18_state: dict[str, Tensor]) -> None:
    spoilt = resnet18_state["layer3.0.conv1.weight"].clone()
    spoilt[0, 0, 0, 0] = torch.nan
    backbone = build_backbone("resnet18")[0]
    with pytest.raises(InputError, match=r"x\.pt: layer3\.0\.conv1\.weight: not finite, expected numbers"):
        fill_backbone(backbone, resnet18_state | {"layer3.0.conv1.weight": spoilt}, "x.pt")


def test_tensors_without_names_are_none(resnet18_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({1: torch.zeros(3), **resnet18_state}, tmp_path / "x.pt")
    assert read_tensors(tmp_path / "x.pt").keys() == resnet18_state.keys()
