"""The backbone: a torchvision resnet without its classifier, and weights for it from any common file."""

import argparse
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models

from data.runtime.errors import InputError
from heads.model.keras_resnet import KERAS_BACKBONES
from heads.model.weight_names import best_prefix, foreign_network, torchvision_names

BACKBONES = {
    "resnet18": models.resnet18,
    "resnet34": models.resnet34,
    "resnet50": models.resnet50,
    **KERAS_BACKBONES,
}
# What each stage of freezing adds, from the pixels up: together the forward pass, whose end is then flattened.
STAGES = {
    "stem": ("conv1", "bn1", "relu", "maxpool"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4", "avgpool"),
}
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
# What training scripts put beside the weights, and what no more than holds values when it is read.
_HARMLESS: list[Any] = [
    *(argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath),
    *(np.float64(0).__reduce__()[0], np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i8"))),
]


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a file the backbone took, which it left, and which backbone tensors the file lacks."""

    taken: tuple[str, ...]
    left: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{len(self.taken)} tensors taken, {len(self.left)} left, {len(self.missing)} missing"
        for what, names in (("left", self.left), ("missing", self.missing)):
            if names:
                text += f"; {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        return text


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """A backbone with random weights, pixels [N, 3, H, W] -> features [N, F]; returns it and F."""
    backbone = BACKBONES[name](weights=None)
    features: int = backbone.fc.in_features
    backbone.fc = nn.Identity()
    return backbone, features


def load_imagenet(backbone: nn.Module, name: str) -> LoadReport:
    """Fill `backbone` with torchvision's ImageNet weights, downloaded on first use.

    Raises:
        InputError: they cannot be downloaded; the message names the option that takes a local file.
    """
    if name in KERAS_BACKBONES:
        raise InputError(
            f"{name} has no ImageNet weights of its own; convert Keras's with python -m heads.convert"
        )
    weights = models.get_model_weights(name).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"ImageNet weights of {name} cannot be downloaded ({error}); give a local file with "
            "--set backbone.weights=FILE (.safetensors, .pt or .pth), or --set backbone.weights=random"
        ) from None
    return fill_backbone(backbone, state, f"torchvision's {weights}")


def load_backbone(backbone: nn.Module, path: Path) -> LoadReport:
    """Fill `backbone` from a .safetensors or torch file; other tensors, such as a classifier, are left.

    Prefixes (`module.`, `model.`, `backbone.`, `backbone.`, ...), the names of `heads.model.weight_names` and half precision
    are understood.

    Raises:
        InputError: unreadable, it matches less than the whole backbone, or it is of a deeper or another one.
    """
    return fill_backbone(backbone, read_tensors(path), str(path))


def fill_backbone(backbone: nn.Module, state: Mapping[str, Tensor], name: str) -> LoadReport:
    """Copy the backbone's tensors out of `state`, wherever its prefix puts them; all of them or none."""
    wanted = backbone.state_dict()
    if foreign := foreign_network(state):
        raise InputError(f"{name}: found {foreign}")
    state = torchvision_names(state)
    prefix = best_prefix(state, list(wanted))
    found = {key: prefix + key for key in wanted if prefix + key in state}
    # Files written before PyTorch 0.4.1 lack these counters, which nothing reads where momentum is set.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    shapes = [
        f"{key} is {list(state[found[key]].shape)}, expected {list(wanted[key].shape)}"
        for key in found
        if state[found[key]].shape != wanted[key].shape
    ]
    broken = [at for at in found.values() if state[at].is_floating_point() and not state[at].isfinite().all()]
    if broken:
        told = ", ".join(broken[:3])
        raise InputError(f"{name}: {told}: not finite, expected numbers; the training that wrote it diverged")
    left = tuple(sorted(set(state) - set(found.values())))
    # A deeper backbone has all of a shallower one's tensors under the same names, and more.
    stages = tuple(f"{prefix}{module}." for modules in STAGES.values() for module in modules)
    more = [key for key in left if key.startswith(stages)]
    if missing or shapes or more:
        lists = {"": shapes, "missing ": missing, "more than it has: ": more}
        problem = "; ".join(what + ", ".join(items[:3]) for what, items in lists.items() if items)
        raise InputError(
            f"{name}: fits {len(found) - len(shapes)} of the backbone's {len(wanted)} tensors ({problem}); "
            "expected all and no more: does backbone.name match the file?"
        )
    backbone.load_state_dict(wanted | {key: state[at].to(wanted[key].dtype) for key, at in found.items()})
    return LoadReport(tuple(found), left, tuple(key for key in wanted if key not in found))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, or from torch's files, whose pickles may hold plain values only."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path}: no such file, expected weights as .safetensors, .pt, .pth or .ckpt")
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not readable as safetensors: {error}") from None
        return tensors
    if path.suffix not in _TORCH_SUFFIXES:
        expected = f".safetensors, {', '.join(_TORCH_SUFFIXES)}"
        raise InputError(f"{path}: found {path.suffix or 'no suffix'}, expected one of {expected}")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds here; each means the file is not plain tensors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if found := re.search(r"GLOBAL (\S+)", str(error)):  # torch's first line is on how to run what it holds
            reason = f"holds a {found[1]}; save its tensors: torch.save(model.state_dict(), FILE)"
        raise InputError(f"{path}: not readable as tensors alone, and nothing else is run: {reason}") from None
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected tensors by name")
    return {k: value for k, value in content.items() if isinstance(k, str) and isinstance(value, Tensor)}


def split_stages(up_to: str) -> tuple[list[str], list[str]]:
    """Names of the backbone's modules up to and including stage `up_to`, and of those after it.

    `up_to` is none, a key of `STAGES`, or all.

    >>> split_stages("layer3")
    (['conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2', 'layer3'], ['layer4', 'avgpool'])
    """
    stages = list(STAGES)
    count = 0 if up_to == "none" else stages.index("layer4" if up_to == "all" else up_to) + 1
    before = [name for stage in stages[:count] for name in STAGES[stage]]
    return before, [name for stage in stages[count:] for name in STAGES[stage]]


def freeze(backbone: nn.Module, up_to: str) -> list[nn.Module]:
    """Stop the gradients from the pixels up to and including stage `up_to` (`split_stages`).

    Returns the frozen modules; the caller keeps them in eval mode, so that batch statistics stay as well.
    """
    frozen = [backbone.get_submodule(name) for name in split_stages(up_to)[0]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen
