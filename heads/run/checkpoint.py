"""Self-describing safetensors: weights with a JSON description, and the whole state of an unfinished run.

Nothing here reads or writes a pickle. What is not a tensor is JSON in the file's metadata.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from data.runtime.errors import InputError
from data.runtime.files import write_atomically
from heads.model.head import load_tensors_into

_KEY = "description"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-ready description to a .safetensors file, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with write_atomically(path) as temporary:
        try:
            save_file(plain, temporary, metadata={"format": "pt", _KEY: json.dumps(description)})
        except SafetensorError as error:
            # The system's error is only in the text: "I/O error: ... (os error 28)".
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the description that `save_tensors` wrote.

    Raises:
        InputError: no such file, damaged, or without our description.
    """
    with _open(path) as file:
        # Version 0.1 called the backbone "trunk".
        tensors = {
            re.sub(r"(^|[/.])trunk\.", r"\1backbone.", name): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 (no mapping)
        }
    return tensors, read_description(path)


def read_description(path: Path) -> dict[str, Any]:
    """Read the description without the tensors; errors as those of `load_tensors`."""
    with _open(path) as file:
        metadata = file.metadata() or {}
    try:
        description = json.loads(metadata[_KEY])
        if not isinstance(description, dict):
            raise TypeError("no mapping")
    except (KeyError, ValueError, TypeError, RecursionError):
        raise InputError(f"{path}: found no description, expected a checkpoint of train_task.py") from None
    return description


def find_description(path: Path) -> dict[str, Any] | None:
    """Read the description if there is one; None for files of other programs and unreadable ones."""
    try:
        return read_description(path)
    except InputError:
        return None


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a checkpoint; train it with train_task.py first")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not readable as safetensors: {error}") from None


def save_state(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimiser: Optimizer,
    schedule: LRScheduler,
    description: Mapping[str, Any],
) -> None:
    """Write everything an unfinished run needs to resume exactly.

    The optimiser is PyTorch's, or accelerate's, whose gradient scaler (fp16) is saved with it; `description` is
    JSON-ready.
    """
    tensors = {f"{name}/{key}": t for name, module in modules.items() for key, t in module.state_dict().items()}
    state = optimiser.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, slots in state["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{index}/{slot}"] = value
            else:
                scalars.setdefault(str(index), {})[slot] = value
    plain = {"param_groups": state["param_groups"], "scalars": scalars, "schedule": schedule.state_dict()}
    plain["description"] = description
    if (scaler := getattr(optimiser, "scaler", None)) is not None:
        plain["scaler"] = scaler.state_dict()
    save_tensors(path, tensors, plain)


def load_state(
    path: Path, modules: Mapping[str, nn.Module], optimiser: Optimizer, schedule: LRScheduler
) -> dict[str, Any]:
    """Restore what `save_state` wrote; return its description.

    The optimiser's gradient scaler, if it has one, keeps its initial state if the file has none.

    Raises:
        InputError: as `load_tensors` and `load_tensors_into`.
    """
    tensors, plain = load_tensors(path)
    for name, module in modules.items():
        own = {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}
        load_tensors_into(module, own, str(path))
    state: dict[int, dict[str, Any]] = {int(i): dict(slots) for i, slots in plain["scalars"].items()}
    for key, tensor in tensors.items():
        if key.startswith("optimiser/"):
            _, index, slot = key.split("/")
            state.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": plain["param_groups"]})
    schedule.load_state_dict(plain["schedule"])
    scaler = getattr(optimiser, "scaler", None)
    if scaler is not None and "scaler" in plain:
        scaler.load_state_dict(plain["scaler"])
    return dict(plain["description"])
