"""A run's folder: the names of its files, and functions that write them."""

import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from data.runtime.files import unsafe_reason, write_atomically, write_text
from data.runtime.machine import cpuinfo_lines
from heads.run.checkpoint import save_tensors

PACKAGES = ("torch", "torchvision", "albumentations", "numpy", "pillow")


class RunFolder:
    """Paths of the files in `runs/<task>/`, or in `runs/<task>/fold-<k>/` for one of several folds.

    Attributes:
        best: the head of the best epoch.
        last: the state after the last epoch, to resume from.
        interrupted: the state in the middle of an epoch, after a signal; removed when that epoch ends.
        lock: held while a process trains in the folder.
        validation: predictions of the best head on its validation set.
        events: folder of TensorBoard's files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.best = folder / "best.safetensors"
        self.last = folder / "last.safetensors"
        self.interrupted = folder / "interrupted.safetensors"
        self.lock = folder / ".lock"
        self.history = folder / "history.csv"
        self.metrics = folder / "metrics.json"
        self.validation = folder / "validation.npz"
        self.events = folder / "tensorboard"


def run_folder(runs: Path, task: str, fold: int | None = None) -> RunFolder:
    """Return the folder of a task's run; `fold` is given only for runs of several folds side by side."""
    return RunFolder(runs / task if fold is None else runs / task / f"fold-{fold}")


def find_trained_runs(runs: Path, task: str) -> list[RunFolder]:
    """Find the runs with a task's heads: all its folds, else its one run; empty if there is none."""
    folds = sorted((runs / task).glob("fold-*/best.safetensors"))
    single = run_folder(runs, task)
    return [RunFolder(best.parent) for best in folds] or ([single] if single.best.is_file() else [])


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch as CSV."""
    text = io.StringIO()
    pd.DataFrame(list(history)).to_csv(text, index=False)
    write_text(path, text.getvalue())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write indented JSON, keys in their order."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as .npz; text is stored as fixed-width unicode, which needs no pickle."""
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{n: np.asarray(array) for n, array in arrays.items()})


def describe_machine() -> dict[str, str]:
    """Describe this computer, on which a run's time depends: system, processor, cores, memory, GPU."""
    names = [line.partition(":")[2].strip() for line in cpuinfo_lines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    machine = {"system": platform.platform(), "processor": processor, "cores": str(os.cpu_count())}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        machine["memory"] = f"{memory / 2**30:.0f} GiB"
    if torch.cuda.is_available():
        machine["GPU"] = torch.cuda.get_device_name()
    return machine


def strip_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce paths in a head's config that lead outside to file names: a checkpoint names no folder."""

    def strip(name: str | None) -> str | None:
        return PureWindowsPath(name).name if name is not None and unsafe_reason(name) else name

    backbone = {**config["backbone"], "weights": strip(config["backbone"]["weights"])}
    return {**config, "backbone": backbone, "corrections": strip(config["corrections"])}


def save_head(
    path: Path,
    head: nn.Module,
    config: Mapping[str, Any],
    validation: Mapping[str, Any],
    box_margin: float | None = None,
) -> None:
    """Write weights with their config (classes, pixels, normalisation), versions, machine and metrics.

    `box_margin` is that of --box-margin if the head was trained on images cropped to face boxes.
    """
    versions = {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    description = {
        "config": strip_paths(config),
        "validation": validation,
        "box_margin": box_margin,
        "versions": versions,
        "machine": describe_machine(),
    }
    save_tensors(path, head.state_dict(), description)
