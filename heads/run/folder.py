"""A run's folder: what each file is called, and how each is written."""

import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from data.runtime.file_names import is_outside
from data.runtime.files import write_atomically, write_text
from data.runtime.processor import cpuinfo_lines
from heads.run.checkpoint import save_tensors

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
    def interrupted(self) -> Path:
        """The state in the middle of an epoch, where a signal ended the run; gone once that epoch ends."""
        return self.folder / "interrupted.safetensors"

    @property
    def lock(self) -> Path:
        """Held while a process trains into the folder."""
        return self.folder / ".lock"

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


def find_trained_runs(runs: Path, task: str) -> list[RunFolder]:
    """The runs that hold a task's heads: all its folds, or its one run; none where there is none."""
    folds = sorted((runs / task).glob("fold-*/best.safetensors"))
    alone = run_folder(runs, task)
    return [RunFolder(best.parent) for best in folds] or ([alone] if alone.best.is_file() else [])


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
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{n: np.asarray(array) for n, array in arrays.items()})


def describe_machine() -> dict[str, str]:
    """What this computer is, for whoever reads how long a run took: system, processor, cores, memory, GPU."""
    told = {"system": platform.platform(), "processor": _processor(), "cores": str(os.cpu_count())}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        told["memory"] = f"{memory / 2**30:.0f} GiB"
    if torch.cuda.is_available():
        told["GPU"] = torch.cuda.get_device_name()
    return told


def _processor() -> str:
    """The processor's own name where the system tells it (Linux), else its architecture."""
    names = (line.partition(":")[2].strip() for line in cpuinfo_lines() if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def strip_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """A head's config without the folders of the describe_machine that trained it, where they lead outside."""

    def alone(name: str | None) -> str | None:
        return PureWindowsPath(name).name if name is not None and is_outside(name) else name

    backbone = {**config["backbone"], "weights": alone(config["backbone"]["weights"])}
    return {**config, "backbone": backbone, "corrections": alone(config["corrections"])}


def save_head(
    path: Path,
    head: nn.Module,
    config: Mapping[str, Any],
    validation: Mapping[str, Any],
    box_margin: float | None = None,
) -> None:
    """Write weights with their config (classes, pixels, normalisation), versions, describe_machine and figures.

    `box_margin` is that of --box-margin where the head was trained on faces cropped to their boxes.
    """
    versions = {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    description = {
        "config": strip_paths(config),
        "validation": validation,
        "box_margin": box_margin,
        "versions": versions,
        "describe_machine": describe_machine(),
    }
    save_tensors(path, head.state_dict(), description)
