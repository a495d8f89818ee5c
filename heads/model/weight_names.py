"""Other programs' names of a resnet's tensors, brought to torchvision's; and networks that are no resnet."""

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

STEM = "conv1.weight"
# Of a backbone taken apart by `nn.Sequential(*resnet.children())`: 2 and 3 are the ReLU and the pooling.
_CHILDREN = {"0": "conv1", "1": "bn1", **{str(4 + stage): f"layer{1 + stage}" for stage in range(4)}}
_IR = (
    "a face-recognition network of the IR kind (batch norm before the convolutions, PReLU, a 3x3 stem without "
    "pooling): its weights mean nothing in a resnet, whose arithmetic is another; give a resnet's weights"
)
_DEEP_STEM = "a resnet with a stem of three convolutions (timm's resnet18d and its like): another network"
# Of a copy that follows the weights: exponential averages, mean teachers, BYOL's target, MoCo's key encoder.
_AVERAGED = re.compile(r"ema|avg|average|teacher|momentum|target|encoder_k", re.IGNORECASE)
# What tells networks that share some names with a resnet, and what they are.
_FOREIGN = (
    (re.compile(r"(^|\.)layer1\.0\.prelu\d?\.weight$"), _IR),
    (re.compile(r"(^|\.)body\.0\.res_layer\.\d\.weight$"), _IR),
    (re.compile(r"(^|\.)conv1\.0\.weight$"), _DEEP_STEM),
)


def foreign_network(names: Iterable[str]) -> str | None:
    """What network the tensors' names are of, if one that is taken for a resnet and is none; else None.

    >>> foreign_network(["conv1.weight", "layer1.0.prelu.weight"]).split(" (")[0]
    'a face-recognition network of the IR kind'
    """
    for name in names:
        for pattern, what in _FOREIGN:
            if pattern.search(name):
                return what
    return None


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under torchvision's names, a prefix before all of them left as it is.

    `_orig_mod.` (torch.compile) is cut wherever it stands, and numbered children get their names back.
    """
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    stems = [name.removesuffix("0.weight") for name in plain if re.search(r"(^|\.)0\.weight$", name)]
    for prefix in stems:
        if f"{prefix}4.0.{STEM}" in plain:
            return {_renamed(name, prefix): tensor for name, tensor in plain.items()}
    return plain


def best_prefix(names: Iterable[str], wanted: Sequence[str]) -> str:
    """What stands before the names of the backbone `wanted`: the prefix under which most of them are found.

    Of equals one that is not named as a copy with averaged weights, and of those the shorter.
    """
    given = set(names)
    prefixes = {name.removesuffix(STEM) for name in given if re.search(rf"(^|\.){re.escape(STEM)}$", name)}

    def rank(prefix: str) -> tuple[int, bool, int, str]:
        found = sum(prefix + name in given for name in wanted)
        return -found, _AVERAGED.search(prefix) is not None, len(prefix), prefix

    return min(prefixes, key=rank, default="")


def _renamed(name: str, prefix: str) -> str:
    if not name.startswith(prefix):
        return name
    first, dot, rest = name.removeprefix(prefix).partition(".")
    return f"{prefix}{_CHILDREN.get(first, first)}{dot}{rest}"
