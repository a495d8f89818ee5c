"""Fixtures of heads' tests: backbones, images of coloured squares, a config of a head for their colours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, ResNet

from heads.config.task import TaskConfig
from heads.model.head import BACKBONES


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Seed PyTorch's global generator for each test, and restore it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def resnet18() -> nn.Module:
    """torchvision's own resnet18 with its 1000 classes, in eval mode; not to be changed."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = models.resnet18(weights=None)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(scope="session")
def resnet18_state(resnet18: nn.Module) -> dict[str, Tensor]:
    return resnet18.state_dict()


class TinyResNet(ResNet):
    """resnet18's stages with an eighth of the channels and one block each: 0.5 MB in place of 45."""

    def __init__(self, **_: object) -> None:
        super().__init__(BasicBlock, [1, 1, 1, 1])
        self.fc = nn.Linear(64, 1000)

    def _make_layer(self, block: type, planes: int, *arguments: object, **options: object) -> nn.Sequential:
        return super()._make_layer(block, planes // 8, *arguments, **options)


@pytest.fixture
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let "resnet18" be a `TinyResNet` where the size of the backbone does not matter."""
    monkeypatch.setitem(BACKBONES, "resnet18", TinyResNet)


@pytest.fixture(scope="session")
def pixels() -> Tensor:
    """Four images [4, 3, 32, 32] uint8."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (4, 3, 32, 32), generator=generator, dtype=torch.uint8)


@dataclass(frozen=True)
class Squares:
    """A data folder of coloured squares with noise, and its rows in order."""

    folder: Path
    paths: list[str]
    colours: list[str]
    persons: list[str]


COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Squares:
    """Twelve people with two squares each, four people of each colour."""
    folder, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    (folder / "images").mkdir()
    rows = [(f"{person}_{shot}.png", list(COLOURS)[person % 3], person) for person in range(12) for shot in (0, 1)]
    for name, colour, _ in rows:
        drawn = rng.normal(COLOURS[colour], 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(drawn).save(folder / "images" / name)
    lines = [f"{name},{colour},{person}" for name, colour, person in rows]
    (folder / "labels.csv").write_text("\n".join(["path,colour,person", *lines]) + "\n", encoding="utf-8")
    names, colours, persons = zip(*rows, strict=True)
    paths = [str(folder / "images" / name) for name in names]
    return Squares(folder, paths, list(colours), [str(person) for person in persons])


@pytest.fixture(scope="session")
def colour_config() -> Callable[..., TaskConfig]:
    """The config of a small head for the colours of `squares`; arguments replace or extend its sections."""

    def make(**sections: Any) -> TaskConfig:
        sized = {"resize": {"height": 32, "width": 32}}
        values: dict[str, Any] = {
            "task": "colour",
            "label": {"column": "colour", "classes": ["red", "green", "blue"]},
            "split": {"folds": 3, "strata": {"colour": []}},
            "backbone": {"weights": "random"},
            "classifier": {"hidden": [8], "dropout": 0.3},
            "loss": {"terms": [{"name": "focal"}]},
            "sampler": {"power": 0.5},
            "pixels": {"train": ["hflip", {"noise": {"p": 0.7}}, sized], "evaluate": [sized]},
            "training": {"epochs": 3, "batch_size": 6, "ema": 0.5, "precision": "fp32", "workers": 0},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}
        return TaskConfig.model_validate(values)

    return make


@pytest.fixture
def accelerate_anew() -> Iterator[None]:
    """Reset accelerate's state, which is one per process, before and after a test."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
