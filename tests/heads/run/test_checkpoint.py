"""What is saved comes back bit for bit, a run goes on as if it had not stopped, and a bad file is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from data.runtime.errors import InputError
from heads.run.checkpoint import (
    load_state,
    load_tensors,
    load_tensors_into,
    read_description,
    save_state,
    save_tensors,
)
from heads.train.optimiser import make_optimiser, make_schedule
from heads.train.state import make_average

DESCRIPTION = {"config": {"task": "mask"}, "classes": ["wear", "ä 顔"], "figures": [0.1, 1e-300]}


class Run:
    """A little of everything that a run's state has: batch norm, decay groups, momentum, schedule, average.

    With a `scale`, gradients are scaled as in fp16, twice as much after every two steps.
    """

    def __init__(self, optimiser: str, schedule: str, seed: int, scale: float | None = None) -> None:
        torch.manual_seed(seed)
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(backbone, nn.Linear(4 * 36, 2)).to(memory_format=torch.channels_last)
        self.optimiser: Optimizer = make_optimiser(backbone, self.head[1], optimiser, 0.05, 0.5, 0.1)
        self.schedule: LRScheduler = make_schedule(self.optimiser, schedule, 2, 4, warmup=0.25)
        self.average = make_average(self.head, 0.9)
        self.modules = {"head": self.head, "average": self.average}
        self.scaler = GradScaler("cpu", scale or 1.0, growth_interval=2, enabled=scale is not None)
        if scale is not None:
            Accelerator(cpu=True, mixed_precision="no")
            self.optimiser = AcceleratedOptimizer(self.optimiser, scaler=self.scaler)

    def train(self, steps: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            loss = self.head(torch.randn(5, 3, 8, 8, generator=generator)).sigmoid().sum()
            self.scaler.scale(loss).backward()
            self.optimiser.step()
            self.schedule.step()
            self.optimiser.zero_grad()
            self.average.update_parameters(self.head)

    def tensors(self) -> list[Tensor]:
        return [*self.head.state_dict().values(), *self.average.state_dict().values()]


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "step"])
def test_a_run_put_back_into_fresh_objects_goes_on_identically(
    tmp_path: Path, optimiser: str, schedule: str
) -> None:
    path = tmp_path / "last.safetensors"
    first, second = Run(optimiser, schedule, seed=0), Run(optimiser, schedule, seed=1)
    first.train(3, seed=2)
    save_state(path, first.modules, first.optimiser, first.schedule, DESCRIPTION)
    assert load_state(path, second.modules, second.optimiser, second.schedule) == DESCRIPTION
    assert second.schedule.get_last_lr() == first.schedule.get_last_lr()
    for run in (first, second):
        run.train(4, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.tensors(), second.tensors(), strict=True))
    assert second.schedule.get_last_lr() == first.schedule.get_last_lr()


def test_the_state_before_the_first_step_comes_back_too(tmp_path: Path) -> None:
    first, second = Run("adamw", "cosine", seed=0), Run("adamw", "cosine", seed=1)
    save_state(tmp_path / "a.safetensors", first.modules, first.optimiser, first.schedule, {})
    load_state(tmp_path / "a.safetensors", second.modules, second.optimiser, second.schedule)
    for run in (first, second):
        run.train(2, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.tensors(), second.tensors(), strict=True))


@pytest.mark.usefixtures("accelerate_anew")
def test_a_run_in_fp16_goes_on_with_the_scale_that_it_had_come_to(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    first, second = (Run("adamw", "cosine", seed, scale=1024.0) for seed in (0, 1))
    first.train(3, seed=2)
    save_state(path, first.modules, first.optimiser, first.schedule, DESCRIPTION)
    assert load_state(path, second.modules, second.optimiser, second.schedule) == DESCRIPTION
    assert second.scaler.state_dict() == first.scaler.state_dict()
    assert first.scaler.get_scale() == 2048.0
    for run in (first, second):
        run.train(4, seed=3)
    assert second.scaler.state_dict() == first.scaler.state_dict()
    assert first.scaler.get_scale() == 8192.0  # after seven steps, of which the third is one half of a pair
    assert all(torch.equal(a, b) for a, b in zip(first.tensors(), second.tensors(), strict=True))


@pytest.mark.usefixtures("accelerate_anew")
def test_a_state_without_a_scaler_is_gone_on_from_with_one_and_the_other_way_round(tmp_path: Path) -> None:
    plain, scaled = Run("adamw", "cosine", seed=0), Run("adamw", "cosine", seed=1, scale=4.0)
    path = tmp_path / "last.safetensors"
    for saved, loaded in ((plain, scaled), (scaled, plain)):
        save_state(path, saved.modules, saved.optimiser, saved.schedule, DESCRIPTION)
        assert load_state(path, loaded.modules, loaded.optimiser, loaded.schedule) == DESCRIPTION
    assert scaled.scaler.get_scale() == 4.0


def test_tensors_and_description_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "weight": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "half": torch.randn(5).half(),
        "count": torch.tensor(7),
        "part": torch.randn(6, 6)[::2, 1:],
    }
    save_tensors(tmp_path / "a.safetensors", tensors, DESCRIPTION)
    found, description = load_tensors(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors)
    assert description == read_description(tmp_path / "a.safetensors") == DESCRIPTION


def test_the_description_is_json_that_any_safetensors_reader_shows(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, DESCRIPTION)
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["description"]) == DESCRIPTION


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def other_bytes(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" * 100)


def no_description(path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path)


def not_json(path: Path) -> None:
    save_file({"x": torch.zeros(1)}, path, metadata={"description": "{"})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (no_bytes, "not readable as safetensors"),
        (cut_short, "not readable as safetensors"),
        (other_bytes, "not readable as safetensors"),
        (no_description, "found no description, expected a checkpoint of train_task.py"),
        (not_json, "found no description, expected a checkpoint of train_task.py"),
        (Path.unlink, "no such file, expected a checkpoint; train it with train_task.py first"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(
    tmp_path: Path, damage: Callable[[Path], None], expected: str
) -> None:
    path = tmp_path / "best.safetensors"
    save_tensors(path, {"x": torch.zeros(9)}, {})
    damage(path)
    for read in (load_tensors, read_description):
        with pytest.raises(InputError) as raised:
            read(path)
        assert str(raised.value).startswith(f"{path}: {expected}")


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (
            {"weight": torch.zeros(2, 3), "bias": torch.tensor([0.0, float("nan")])},
            "bias holds NaN or infinity",
        ),
        ({"weight": torch.full((2, 3), torch.inf), "bias": torch.zeros(2)}, "weight holds NaN or infinity"),
        ({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, "do not fit its own config.*size mismatch"),
        ({"weight": torch.zeros(2, 3)}, "do not fit its own config.*Missing key.*bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, "Unexpected key"),
    ],
)
def test_weights_that_do_not_fit_or_are_no_numbers_are_refused(tensors: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=f"best.safetensors: .*{expected}"):
        load_tensors_into(nn.Linear(3, 2), tensors, "best.safetensors")


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.safetensors"
    save_tensors(path, {"x": torch.ones(3)}, {"epoch": 1})

    def fails(tensors: Any, filename: Path, metadata: Any) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("heads.run.checkpoint.save_file", fails)
    with pytest.raises(OSError, match="No space left"):
        save_tensors(path, {"x": torch.zeros(3)}, {"epoch": 2})
    tensors, description = load_tensors(path)
    assert (tensors["x"].tolist(), description) == ([1, 1, 1], {"epoch": 1})
    assert list(tmp_path.iterdir()) == [path]
