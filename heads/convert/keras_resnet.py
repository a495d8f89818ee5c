"""Keras's ResNet-50 to the tensors of a backbone, and its output layer to those of a classifier."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.runtime.errors import InputError, raise_all
from heads.convert.keras_file import INPUTS, Arrays, KerasFile, read_keras
from heads.model.head import RELEASES, Release, build_backbone
from heads.model.weights import fill_backbone

FEATURES = 2048
FIELDS = {"conv": ("weight", "bias"), "bn": ("weight", "bias", "running_mean", "running_var")}
_NEW = re.compile(r"conv(?P<stage>[2-5])_block(?P<block>\d+)_(?P<place>[0-3])_(?P<kind>conv|bn)")
_OLD = re.compile(r"(?P<kind>res|bn)(?P<stage>[2-5])(?P<block>[a-z])_branch(?P<place>1|2a|2b|2c)")
_STEM = {"conv1_conv": "conv1", "conv1_bn": "bn1", "conv1": "conv1", "bn_conv1": "bn1"}
_PLACES = {"1": "0", "2a": "1", "2b": "2", "2c": "3"}


def backbone_module(layer: str) -> tuple[str, str] | None:
    """The backbone's module for a Keras layer, and its kind, "conv" or "bn"; None for other layers.

    >>> backbone_module("conv3_block1_0_bn"), backbone_module("res5c_branch2b"), backbone_module("pred_age")
    (('layer2.0.downsample.1', 'bn'), ('layer4.2.conv2', 'conv'), None)
    """
    if layer in _STEM:
        return _STEM[layer], "bn" if "bn" in layer else "conv"
    if found := _NEW.fullmatch(layer):
        kind, place, block = found["kind"], found["place"], int(found["block"]) - 1
    elif found := _OLD.fullmatch(layer):
        kind, place = "bn" if found["kind"] == "bn" else "conv", _PLACES[found["place"]]
        block = ord(found["block"]) - ord("a")
    else:
        return None
    module = f"downsample.{int(kind == 'bn')}" if place == "0" else f"{kind}{place}"
    return f"layer{int(found['stage']) - 1}.{block}.{module}", kind


def backbone_tensors(arrays: Mapping[str, Arrays]) -> dict[str, Tensor]:
    """The backbone's tensors from the layers' arrays; layers of no ResNet are not used."""
    tensors: dict[str, Tensor] = {}
    problems = []
    for layer, values in arrays.items():
        module, kind = backbone_module(layer) or ("", "")
        if module and len(values) != len(FIELDS[kind]):
            problems.append(f"{layer}: {len(values)} arrays, expected {', '.join(FIELDS[kind])}")
        elif module:
            for field, value in zip(FIELDS[kind], values, strict=True):
                # Keras stores kernels as [height, width, in, out], PyTorch as [out, in, height, width].
                moved = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
                tensors[f"{module}.{field}"] = torch.from_numpy(np.ascontiguousarray(moved))
    raise_all("not the layers of a Keras ResNet-50:", problems)
    return tensors


def find_release(file: KerasFile, name: str) -> str:
    """The backbone (a key of `RELEASES`) with the settings of the file's layers, or else with their names.

    Raises:
        InputError: no release has a ResNet-50 of these settings; all differences are listed.
    """
    new = "conv1_conv" in file.arrays
    modules = {layer: found for layer in file.arrays if (found := backbone_module(layer))}
    settings = {layer: file.configs[layer] for layer in modules if layer in file.configs}
    epsilons = {float(s["epsilon"]) for layer, s in settings.items() if modules[layer][1] == "bn"}
    stem = settings.get("conv1_conv" if new else "conv1")
    padded = any("pad" in layer for layer in file.layers if layer != "pool1_pad")
    release = Release(
        epsilon=max(epsilons, default=1.001e-5 if new else 1e-3),
        same=stem["padding"] == "same" if stem else not (new or padded),
        pool_padding=int(new or "pool1_pad" in file.layers),
    )
    problems = [
        f"{layer}: takes the largest value of each map, expected their mean (pooling='avg')"
        for layer in file.layers
        if layer == "max_pool" or layer.startswith("global_max_pooling")  # not max_pooling2d_1, of the stem
    ]
    problems += [f"epsilons {sorted(epsilons)}, expected one for all"] if len(epsilons) > 1 else []
    for layer, (module, kind) in modules.items():
        strides = settings.get(layer, {}).get("strides")
        halves = re.fullmatch(r"conv1|layer[2-4]\.0\.(conv1|downsample\.0)", module) is not None
        if kind == "conv" and strides is not None and list(strides) != [1 + halves] * 2:
            problems.append(f"{layer}: strides {list(strides)}, expected {[1 + halves] * 2}")
    raise_all(f"{name}: not laid out as Keras's own ResNet-50:", problems)
    for backbone, known in RELEASES.items():
        if known == release:
            return backbone
    raise InputError(f"{name}: found {release}, expected one of {', '.join(map(str, RELEASES.values()))}")


def find_classifier(arrays: Mapping[str, Arrays], name: str, output: str | None) -> dict[str, Tensor]:
    """The dense layer [2048, K] on the backbone as our classifier's tensors, zeros for a bias that it lacks."""
    dense = {layer: a for layer, a in arrays.items() if a[0].ndim == 2 and len(a[0]) == FEATURES}
    if output is not None and output not in dense:
        raise InputError(f"--output {output}: found {', '.join(dense) or 'none'} on the backbone's features")
    if output is None and len(dense) > 1:
        raise InputError(f"{name}: found several outputs, {', '.join(dense)}: choose one with --output LAYER")
    if not dense:
        return {}
    kernel, *bias = dense[output or next(iter(dense))]
    return {
        "classifier.1.weight": torch.from_numpy(np.ascontiguousarray(kernel.T)),
        "classifier.1.bias": torch.from_numpy(bias[0]) if bias else torch.zeros(kernel.shape[1]),
    }


def convert(path: Path, scaling: str, output: str | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Convert a Keras file to tensors `backbone.*` and `classifier.*`, and their description.

    `scaling` is a key of `INPUTS`, which Keras's files do not contain; `output` is needed if there are several.
    """
    file = read_keras(path)
    tensors = backbone_tensors(file.arrays)
    if not tensors:
        raise InputError(f"{path}: found {', '.join(list(file.arrays)[:4])}, ..., expected Keras's ResNet-50")
    name = find_release(file, str(path))
    mean, std, blue_first = INPUTS[scaling]
    if blue_first:
        tensors["conv1.weight"] = tensors["conv1.weight"].flip(1)
    backbone, _ = build_backbone(name)
    fill_backbone(backbone, tensors, str(path))  # refuses less or more than a ResNet-50
    classifier = find_classifier(file.arrays, str(path), output)
    description = {
        "trunk": {"name": name, "mean": list(mean), "std": [std] * 3},
        "outputs": len(classifier["classifier.1.bias"]) if classifier else 0,
        "source": {"file": path.name, "written_by": file.written_by, "input": scaling},
    }
    return {f"backbone.{key}": value for key, value in backbone.state_dict().items()} | classifier, description
