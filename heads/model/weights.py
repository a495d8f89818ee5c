"""Weights for a backbone from any common file: its tensors, their names in other programs, its description."""

import argparse
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.runtime.errors import InputError
from heads.config.loader import check_config
from heads.config.task import TaskConfig
from heads.model.head import RELEASES, STAGES
from heads.run.checkpoint import find_description

STEM = "conv1.weight"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
# Types that training scripts store beside the weights; loading them only holds values.
_HARMLESS: list[Any] = [
    *(argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath),
    *(np.float64(0).__reduce__()[0], np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i8"))),
]
# Of a backbone taken apart by `nn.Sequential(*resnet.children())`: 2 and 3 are the ReLU and the pooling.
_CHILDREN = {"0": "conv1", "1": "bn1", **{str(4 + stage): f"layer{1 + stage}" for stage in range(4)}}
# Of a copy that follows the weights: exponential averages, mean teachers, BYOL's target, MoCo's key encoder.
_AVERAGED = re.compile(r"ema|avg|average|teacher|momentum|target|encoder_k", re.IGNORECASE)
_IR = (
    "a face-recognition network of the IR kind (batch norm before the convolutions, PReLU, a 3x3 stem without "
    "pooling): its weights mean nothing in a resnet, whose arithmetic is another; give a resnet's weights"
)
_DEEP_STEM = "a resnet with a stem of three convolutions (timm's resnet18d and its like): another network"
# Names that identify networks that share some names with a resnet.
_FOREIGN = {
    r"(^|\.)layer1\.0\.prelu\d?\.weight$": _IR,
    r"(^|\.)body\.0\.res_layer\.\d\.weight$": _IR,
    r"(^|\.)conv1\.0\.weight$": _DEEP_STEM,
}


@dataclass(frozen=True)
class LoadReport:
    """Names of the file's tensors that were loaded and unused, and of the backbone's that the file lacks."""

    loaded: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{len(self.loaded)} tensors loaded, {len(self.unused)} unused, {len(self.missing)} missing"
        for what, names in (("unused", self.unused), ("missing", self.missing)):
            if names:
                text += f"; {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        return text


def load_imagenet(backbone: nn.Module, name: str) -> LoadReport:
    """Fill `backbone` with torchvision's ImageNet weights, downloaded on first use.

    Raises:
        InputError: they cannot be downloaded; the message names the option that takes a local file.
    """
    if name in RELEASES:
        raise InputError(f"{name} has no ImageNet weights of its own; convert Keras's with python -m heads.convert")
    from torchvision.models import get_model_weights  # late: it loads PyTorch's compiler, which takes seconds

    weights = get_model_weights(name).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"ImageNet weights of {name} cannot be downloaded ({error}); give a local file with "
            "--set backbone.weights=FILE (.safetensors, .pt or .pth), or --set backbone.weights=random"
        ) from None
    return fill_backbone(backbone, state, f"torchvision's {weights}")


def fill_backbone(backbone: nn.Module, state: Mapping[str, Tensor], name: str) -> LoadReport:
    """Copy the backbone's tensors out of `state`, the content of the file `name`; all of them or none.

    Any prefix (`module.`, `model.`, `backbone.`, ...), the names of `nn.Sequential` and torch.compile, and half
    precision are understood; other tensors, such as a classifier, are not used.

    Raises:
        InputError: it has less than the whole backbone, or is of a deeper or another network.
    """
    wanted = backbone.state_dict()
    for pattern, network in _FOREIGN.items():
        if any(re.search(pattern, key) for key in state):
            raise InputError(f"{name}: found {network}")
    state = _torchvision_names(state)
    prefix = _best_prefix(state, list(wanted))
    found = {key: state[prefix + key] for key in wanted if prefix + key in state}
    # Files written before PyTorch 0.4.1 lack these counters, which nothing reads where momentum is set.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    shapes = [
        f"{key} is {list(tensor.shape)}, expected {list(wanted[key].shape)}"
        for key, tensor in found.items()
        if tensor.shape != wanted[key].shape
    ]
    broken = ", ".join([prefix + key for key, tensor in found.items() if not tensor.isfinite().all()][:3])
    if broken:
        raise InputError(f"{name}: {broken}: not finite, expected numbers; the training that wrote it diverged")
    unused = tuple(sorted(state.keys() - {prefix + key for key in found}))
    # A deeper backbone has all of a shallower one's tensors under the same names, and more.
    stages = tuple(f"{prefix}{module}." for modules in STAGES.values() for module in modules)
    more = [key for key in unused if key.startswith(stages)]
    if missing or shapes or more:
        lists = {"": shapes, "missing ": missing, "more than it has: ": more}
        problem = "; ".join(what + ", ".join(items[:3]) for what, items in lists.items() if items)
        raise InputError(
            f"{name}: fits {len(found) - len(shapes)} of the backbone's {len(wanted)} tensors ({problem}); "
            "expected all and no more: does backbone.name match the file?"
        )
    backbone.load_state_dict(wanted | {key: tensor.to(wanted[key].dtype) for key, tensor in found.items()})
    return LoadReport(tuple(found), unused, tuple(key for key in wanted if key not in found))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, or from torch's files, whose pickles may hold plain values only."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path}: no such file, expected weights as .safetensors, .pt, .pth or .ckpt")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not readable as safetensors: {error}") from None
    if path.suffix not in _TORCH_SUFFIXES:
        expected = f".safetensors, {', '.join(_TORCH_SUFFIXES)}"
        raise InputError(f"{path}: found {path.suffix or 'no suffix'}, expected one of {expected}")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds here; each means the file is not plain tensors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if found := re.search(r"GLOBAL (\S+)", str(error)):  # torch's first line is how to load it unsafely
            reason = f"holds a {found[1]}; save its tensors: torch.save(model.state_dict(), FILE)"
        raise InputError(f"{path}: not readable as tensors alone, and nothing else is run: {reason}") from None
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected tensors by name")
    return {k: value for k, value in content.items() if isinstance(k, str) and isinstance(value, Tensor)}


def _torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without `_orig_mod.` (torch.compile), numbered children renamed; prefixes stay."""
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    stems = [name.removesuffix("0.weight") for name in plain if re.search(r"(^|\.)0\.weight$", name)]
    for prefix in stems:
        if f"{prefix}4.0.{STEM}" in plain:
            child = re.compile(rf"^({re.escape(prefix)})([^.]*)")
            return {
                child.sub(lambda found: found[1] + _CHILDREN.get(found[2], found[2]), name, count=1): tensor
                for name, tensor in plain.items()
            }
    return plain


def _best_prefix(names: Iterable[str], wanted: Sequence[str]) -> str:
    """The prefix under which most of the backbone's names `wanted` are found.

    Of equals one that is not named as a copy with averaged weights, and of those the shorter.
    """
    names = set(names)
    prefixes = {name.removesuffix(STEM) for name in names if re.search(rf"(^|\.){re.escape(STEM)}$", name)}

    def rank(prefix: str) -> tuple[int, bool, int, str]:
        found = sum(prefix + name in names for name in wanted)
        return -found, _AVERAGED.search(prefix) is not None, len(prefix), prefix

    return min(prefixes, key=rank, default="")


def apply_weights_metadata(config: TaskConfig, name: str) -> TaskConfig:
    """`config`, called `name` in errors, with the backbone and normalisation of a file of `heads.convert`.

    Raises:
        InputError: the config sets another backbone or another normalisation than the file's, or the file's
            description is not one of `heads.convert`.
    """
    weights = config.backbone.weights
    if not weights.endswith(".safetensors") or not Path(weights).is_file():
        return config
    backbone = (find_description(Path(weights)) or {}).get("trunk")
    if not isinstance(backbone, dict):
        return config
    plain, keys = config.model_dump(), (("backbone", "name"), ("pixels", "mean"), ("pixels", "std"))
    if missing := [key for _, key in keys if key not in backbone]:
        raise InputError(
            f"{weights}: its description has no {', '.join(missing)} of the backbone, expected those of "
            "python -m heads.convert; give a file of tensors alone"
        )
    for section, key in keys:
        part = getattr(config, section)
        if key in part.model_fields_set and getattr(part, key) != backbone[key]:
            raise InputError(
                f"{name}: {section}.{key} is {getattr(part, key)}, expected {backbone[key]} as in {weights}; "
                "leave it out"
            )
        plain[section][key] = backbone[key]
    return check_config(TaskConfig, plain, weights)
