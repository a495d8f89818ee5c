"""A run's folder: what each file is called, and how a head comes back out of it."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from data.files import write_text, written_whole
from heads.checkpoint import save_tensors

PACKAGES = ("torch", "torchvision", "albumentations", "numpy", "pillow")


@dataclass(frozen=True)
class RunFolder:
    """`runs/<task>/`, or `runs/<task>/fold-<k>/` for one of several folds."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def validation(self) -> Path:
        return self.folder / "validation.npz"

    @property
    def events(self) -> Path:
        return self.folder / "tensorboard"


def run_folder(runs: Path, task: str, fold: int | None = None) -> RunFolder:
    """Where a task's run stands: `fold` is given only where several folds stand side by side."""
    return RunFolder(runs / task if fold is None else runs / task / f"fold-{fold}")


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch as CSV."""
    text = io.StringIO()
    pd.DataFrame(list(history)).to_csv(text, index=False)
    write_text(path, text.getvalue())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON for people: indented, keys in their order."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as .npz; text is stored as fixed-width unicode, so that no pickle is needed."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{n: np.asarray(array) for n, array in arrays.items()})


def save_head(path: Path, head: nn.Module, config: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
    """Write weights with their config (classes, pixels, normalisation), versions and validation figures."""
    versions = {package: version(package) for package in PACKAGES}
    description = {"config": config, "validation": validation, "versions": versions}
    save_tensors(path, head.state_dict(), description)
