"""A checkpoint that was made to deceive: refused, and nothing in it is run, opened or paid for."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from data.runtime.errors import InputError
from heads.build import build_head, load_head
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.model.backbones import read_tensors
from heads.run.checkpoint import load_tensors, save_tensors

Change = Callable[[dict[str, Any], dict[str, Any]], None]


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.fixture
def checkpoint(configs: Path, tmp_path: Path) -> Path:
    config = load_config(TaskConfig, configs / "mask.yaml")
    path = tmp_path / "best.safetensors"
    save_tensors(path, build_head(config).state_dict(), {"config": config.model_dump(), "validation": {}})
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_a_pickle_is_not_unpickled(suffix: str, tmp_path: Path) -> None:
    planted, path = tmp_path / "planted", tmp_path / f"best{suffix}"
    path.write_bytes(pickle.dumps({"weight": Touch(planted)}))
    pickle.loads(path.read_bytes())
    assert planted.exists()  # it would
    planted.unlink()
    for read in (load_head, read_tensors, load_tensors):
        with pytest.raises(InputError, match=f"best{suffix}: "):
            read(path)
    torch.save({"weight": Touch(planted)}, path)
    for read in (load_head, read_tensors, load_tensors):
        with pytest.raises(InputError, match=f"best{suffix}: "):
            read(path)
    assert not planted.exists()


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.1, 0.5, 0.9999])
def test_a_file_that_was_cut_short(share: float, checkpoint: Path) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"best\.safetensors: not readable as safetensors"):
        load_head(checkpoint)


def nan(tensors: dict[str, Any], _: dict[str, Any]) -> None:
    tensors["trunk.conv1.weight"][0, 0, 0, 0] = float("nan")


def other_shape(tensors: dict[str, Any], _: dict[str, Any]) -> None:
    tensors["trunk.conv1.weight"] = torch.zeros(64, 3, 3, 3)


def tensor_missing(tensors: dict[str, Any], _: dict[str, Any]) -> None:
    del tensors["trunk.conv1.weight"]


def tensor_too_many(tensors: dict[str, Any], _: dict[str, Any]) -> None:
    tensors["more"] = torch.zeros(1)


def more_classes(_: dict[str, Any], description: dict[str, Any]) -> None:
    description["config"]["label"]["classes"] = ["a", "b", "c", "d"]


def head_that_fills_the_memory(_: dict[str, Any], description: dict[str, Any]) -> None:
    description["config"]["classifier"]["hidden"] = [10**9, 10**9]


def no_config(_: dict[str, Any], description: dict[str, Any]) -> None:
    description["config"] = "mask.yaml"


def unknown_key(_: dict[str, Any], description: dict[str, Any]) -> None:
    description["config"]["execute"] = "touch planted"


def task_outside(_: dict[str, Any], description: dict[str, Any]) -> None:
    description["config"]["task"] = "../../planted"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan, "backbone.conv1.weight holds NaN"),
        (other_shape, r"found \(64, 3, 3, 3\), expected \(64, 3, 7, 7\)"),
        (tensor_missing, "backbone.conv1.weight: found none"),
        (tensor_too_many, "more: found .*, expected none"),
        (more_classes, "do not fit its own config"),
        (head_that_fills_the_memory, "do not fit its own config"),
        (no_config, "found no config in it"),
        (unknown_key, "execute: unknown key"),
        (task_outside, "task"),
    ],
)
def test_what_does_not_fit_is_refused(change: Change, message: str, checkpoint: Path) -> None:
    tensors, description = load_tensors(checkpoint)
    change(tensors, description)
    save_tensors(checkpoint, tensors, description)
    with pytest.raises(InputError, match=message) as refused:
        load_head(checkpoint)
    assert str(checkpoint) in str(refused.value)


@pytest.mark.parametrize("description", ["[]", "3", "null", "{", "[" * 100_000, '"text"'])
def test_a_description_of_another_kind_is_refused(description: str, checkpoint: Path) -> None:
    save_file({"x": torch.zeros(1)}, checkpoint, metadata={"description": description})
    with pytest.raises(InputError, match="found no description"):
        load_head(checkpoint)


@pytest.mark.parametrize("key", ["backbone", "corrections"])
def test_files_that_a_checkpoint_names_outside_are_refused_unopened(
    key: str, checkpoint: Path, tmp_path: Path
) -> None:
    """A config names the weights that a head began with; out of a checkpoint they are never read."""
    os.mkfifo(tmp_path / "outside")  # who opened it would hang
    tensors, description = load_tensors(checkpoint)
    if key == "backbone":
        description["config"]["backbone"]["weights"] = str(tmp_path / "outside")
    else:
        description["config"]["corrections"] = str(tmp_path / "outside")
    save_tensors(checkpoint, tensors, description)
    with pytest.raises(InputError, match="outside of its folder; expected a name alone"):
        load_head(checkpoint)


def test_the_description_of_a_head_is_json(checkpoint: Path) -> None:
    assert json.loads(json.dumps(load_tensors(checkpoint)[1]))["config"]["task"] == "mask"
