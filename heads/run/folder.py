"""A run's folder: the names of its files, functions that write them, and their checksums."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from torch import nn

from data.runtime.errors import InputError
from data.runtime.files import unsafe_reason, write_text
from data.runtime.machine import cpuinfo_lines
from heads.run.checkpoint import save_tensors

PACKAGES = ("torch", "torchvision", "albumentations", "numpy", "pillow")
MANIFEST = "manifest.json"
SOURCE_RUN = "run:"  # before the name of a run in `backbone.weights`
TRAINING_ONLY = "projection."  # prefix of the tensors of `Head.projection`


class RunFolder:
    """Paths of the files in `runs/<task>/`, or in `runs/<task>/fold-<k>/` for one of several folds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.best = folder / "best.safetensors"  # the head of the best epoch
        self.last = folder / "last.safetensors"  # the state after the last epoch, to resume from
        self.interrupted = folder / "interrupted.safetensors"  # the state amid an epoch, removed when that epoch ends
        self.lock = folder / ".lock"  # held while a process trains in the folder
        self.history = folder / "history.csv"
        self.metrics = folder / "metrics.json"
        self.validation = folder / "validation.npz"  # predictions of the best head on its validation set
        self.teacher = folder / "teacher.npz"  # predictions of teacher.runs for its training images
        self.events = folder / "tensorboard"  # TensorBoard's files


def folds_file(runs: Path, folds: int, seed: int) -> Path:
    """Return the file with the fold of each person, shared by all heads in `runs` that are split alike."""
    return runs / f"folds-{folds}-{seed}.csv"


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
    import pandas as pd  # late: predictions need no tables

    write_text(path, pd.DataFrame(list(history)).to_csv(index=False))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write indented JSON, keys in their order."""
    write_text(path, json.dumps(value, indent=2) + "\n")


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
    stripped = {**config, "backbone": backbone, "corrections": strip(config["corrections"])}
    if (teacher := config.get("teacher")) is not None:
        runs, file = list(map(strip, teacher["runs"])), strip(teacher["file"])
        stripped["teacher"] = {**teacher, "runs": runs, "file": file}
    return stripped


def save_head(
    path: Path,
    head: nn.Module,
    config: Mapping[str, Any],
    validation: Mapping[str, Any],
    box_margin: float | None = None,
    temperature: float = 1.0,
    people: Mapping[str, Any] | None = None,
) -> None:
    """Write weights with their config (classes, pixels, normalisation), versions, machine and metrics.

    `box_margin` is that of --box-margin if the head was trained on images cropped to face boxes; `temperature`
    calibrates its probabilities (`heads.objective.calibration`); `people` are those it was trained on, as hashes
    (`heads.run.leakage.TrainingPeople.to_json`).
    """
    versions = {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    description = {"config": strip_paths(config), "validation": validation, "box_margin": box_margin}
    description |= {"temperature": temperature, "versions": versions, "machine": describe_machine()}
    if people is not None:
        description["people"] = people
    tensors = {name: tensor for name, tensor in head.state_dict().items() if not name.startswith(TRAINING_ONLY)}
    save_tensors(path, tensors, description)


def file_checksum(path: Path) -> str:
    """Compute a file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, growing: Path | None = None) -> None:
    """Write the checksums of all files in and below `folder`.

    Hidden files, folds (which have manifests of their own) and files in the folder `growing` are left out.
    """
    checksums = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        separate = any(part.startswith((".", "fold-")) for part in name.parts)
        if path.is_file() and path.name != MANIFEST and not separate and growing not in path.parents:
            checksums[name.as_posix()] = file_checksum(path)
    write_text(folder / MANIFEST, json.dumps({"sha256": checksums}, indent=2) + "\n")


def verify_checksum(path: Path) -> tuple[str, str]:
    """Compare a file's checksum with the manifest beside it; return the checksum and a warning (may be empty).

    Raises:
        InputError: the manifest has another checksum, or cannot be read.
    """
    found = file_checksum(path)
    manifest = path.parent / MANIFEST
    try:
        expected = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
        if not isinstance(expected, dict):
            raise TypeError("sha256 is no mapping")
    except FileNotFoundError:
        return found, f"{path}: its checksum is not verified, there is no {MANIFEST} beside it"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{manifest}: cannot be read ({error}); finish the run with --resume") from None
    if expected.get(path.name) != found:
        raise InputError(
            f"{path}: its checksum is not the one in {MANIFEST}: it was changed, damaged, or belongs to an "
            "unfinished run; finish that run with train_task.py --resume, or train it again"
        )
    return found, ""


def source_run_name(weights: str) -> str | None:
    """Return NAME if a config's `backbone.weights` is run:NAME, else None."""
    return weights.removeprefix(SOURCE_RUN) if weights.startswith(SOURCE_RUN) else None


def find_source_run(weights: str, runs: Path, fold: int | None) -> RunFolder | None:
    """Find the run that `run:NAME` refers to, of the same fold if there is one; None for other weights.

    Raises:
        InputError: the run has no head yet.
    """
    task = source_run_name(weights)
    if task is None:
        return None
    run = run_folder(runs, task, fold)
    if not run.best.is_file():
        run = run_folder(runs, task)
    if not run.best.is_file():
        raise InputError(
            f"backbone.weights={weights}: {run.best} does not exist; "
            f"train it first with train_task.py --task {task} --runs {runs}"
        )
    return run
