"""What is saved is loaded bit for bit, a run resumes identically, and a bad or hostile file is refused unopened."""

import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import save_file
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from data.runtime.errors import InputError
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.load import build_head, load_head
from heads.run.checkpoint import load_state, load_tensors, read_description, save_state, save_tensors
from heads.train.optimiser import make_average, make_optimiser, make_schedule

DESCRIPTION = {"config": {"task": "mask"}, "classes": ["wear", "ä 顔"], "metrics": [0.1, 1e-300]}


class Run:
    """A small head in training; with a `scale`, gradients are scaled as in fp16, twice as much every two steps."""

    def __init__(self, optimiser: str, schedule: str, seed: int, scale: float | None = None) -> None:
        torch.manual_seed(seed)
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(backbone, nn.Linear(4 * 36, 2)).to(memory_format=torch.channels_last)
        self.optimiser: Optimizer = make_optimiser(backbone, self.head[1], optimiser, 0.05, 0.5, 0.1)
        self.schedule: LRScheduler = make_schedule(self.optimiser, schedule, 2, 4, warmup=0.25)
        self.average = make_average(self.head, 0.9)
        self.scaler = GradScaler("cpu", scale or 1.0, growth_interval=2, enabled=scale is not None)
        if scale is not None:
            Accelerator(cpu=True, mixed_precision="no")
            self.optimiser = AcceleratedOptimizer(self.optimiser, scaler=self.scaler)
        self.state = {"head": self.head, "average": self.average}, self.optimiser, self.schedule

    def train(self, steps: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            loss = self.head(torch.randn(5, 3, 8, 8, generator=generator)).sigmoid().sum()
            self.scaler.scale(loss).backward()
            self.optimiser.step()
            self.schedule.step()
            self.optimiser.zero_grad()
            self.average.update_parameters(self.head)

    def numbers(self) -> list[object]:
        """Every number of the state that the run goes on with."""
        tensors = [*self.head.state_dict().values(), *self.average.state_dict().values()]
        return [self.scaler.state_dict(), self.schedule.get_last_lr(), *(tensor.tolist() for tensor in tensors)]


@pytest.mark.usefixtures("accelerate_anew")
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("kind", [("adamw", "one_cycle"), ("adam", "cosine"), ("sgd", "step")])
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_a_run_restored_into_new_objects_continues_identically(
    tmp_path: Path, kind: tuple[str, str], scale: float | None, steps: int
) -> None:
    path = tmp_path / "last.safetensors"
    first, second = Run(*kind, 0, scale), Run(*kind, 1, scale)
    first.train(steps, seed=2)
    save_state(path, *first.state, DESCRIPTION)
    assert load_state(path, *second.state) == DESCRIPTION
    assert second.scaler.state_dict() == first.scaler.state_dict()
    for run in (first, second):
        run.train(4, seed=3)
    assert second.numbers() == first.numbers()
    assert scale is None or first.scaler.get_scale() == scale * 2 ** ((steps + 4) // 2)
    plain = Run(*kind, 2)
    assert load_state(path, *plain.state) == DESCRIPTION  # without a scaler, and the other way round
    save_state(path, *plain.state, {})
    assert load_state(path, *second.state) == {}


def test_tensors_and_description_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {
        "weight": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "half": torch.randn(5).half(),
        "count": torch.tensor(7),
        "part": torch.randn(6, 6)[::2, 1:],
        "trunk.weight": torch.ones(1),
    }
    save_tensors(path, tensors, DESCRIPTION)
    found, description = load_tensors(path)
    tensors["backbone.weight"] = tensors.pop("trunk.weight")  # the name in version 0.1
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors)
    assert description == read_description(path) == DESCRIPTION


@pytest.fixture
def checkpoint(configs: Path, tiny_backbone: None, tmp_path: Path) -> Path:
    config = load_config(TaskConfig, configs / "mask.yaml")
    path = tmp_path / "best.safetensors"
    save_tensors(path, build_head(config).state_dict(), {"config": config.model_dump(), "validation": {}})
    return path


def cut(share: float, path: Path) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def describe(description: str, path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path, metadata={"description": description})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        *((partial(cut, share), "not readable as safetensors") for share in (0.0, 0.1, 0.9999)),
        (lambda path: path.write_bytes(pickle.dumps({"weight": 1})), "not readable as safetensors"),
        (lambda path: torch.save({"weight": torch.zeros(1)}, path), "not readable as safetensors"),
        (Path.unlink, "no such file, expected a checkpoint; train it with train_task.py first"),
        (lambda path: save_file({"x": torch.zeros(1)}, path), "found no description, expected a checkpoint of"),
        *((partial(describe, t), "found no description") for t in ("[]", "{", "[" * 100_000)),
    ],
)
def test_a_damaged_file_is_refused_by_every_reader(
    damage: Callable[[Path], object], expected: str, checkpoint: Path
) -> None:
    damage(checkpoint)
    for read in (load_tensors, read_description, load_head):
        with pytest.raises(InputError, match=f"^{checkpoint}: {expected}"):
            read(checkpoint)


CONV = "backbone.conv1.weight"
Change = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, d: t.update({CONV: t[CONV] * float("nan")}), f"{CONV} holds NaN"),
        (lambda t, d: t.update({CONV: torch.zeros(64, 3, 3, 3)}), r"found \(64, 3, 3, 3\), expected \(64, 3, 7"),
        (lambda t, d: t.pop(CONV), f"{CONV}: found none"),
        (lambda t, d: t.update(more=torch.zeros(1)), "more: found .*, expected none"),
        (lambda t, d: d["config"]["classifier"].update(hidden=[10**9, 10**9]), "do not fit its own config"),
        (lambda t, d: d.update(config="mask.yaml"), r"found no config in it, expected a head's best\.safetens"),
        (lambda t, d: d["config"].update(execute="touch planted"), "execute: unknown key"),
        (lambda t, d: d["config"].update(task="../../planted"), "task"),
        (lambda t, d: d["config"].update(corrections="C:\\\\secret.csv"), "outside of its folder"),
    ],
)
def test_a_head_that_does_not_fit_its_config_is_refused(change: Change, message: str, checkpoint: Path) -> None:
    tensors, description = load_tensors(checkpoint)
    change(tensors, description)
    save_tensors(checkpoint, tensors, description)
    with pytest.raises(InputError, match=rf"(?s){checkpoint}.*{message}"):
        load_head(checkpoint)


def test_files_outside_that_a_checkpoint_names_are_never_opened(checkpoint: Path) -> None:
    os.mkfifo(outside := checkpoint.with_name("outside"))  # opening it would block
    tensors, description = load_tensors(checkpoint)
    for change in ({"backbone": {"weights": str(outside)}}, {"corrections": str(outside)}):
        save_tensors(checkpoint, tensors, {"config": description["config"] | change})
        with pytest.raises(InputError, match="outside of its folder; expected a name alone"):
            load_head(checkpoint)
