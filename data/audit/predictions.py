"""Predictions of runs for their validation sets: `<task>/validation.npz`, `<task>/fold-<k>/validation.npz`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.corrections import image_names, person_in_source
from data.audit.validation import VALIDATION, read_validation
from data.runtime.errors import InputError, raise_all


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """One task's predictions for images of people whom the heads were not trained on."""

    column: str  # of the label; empty for a joint label, which is in no column of the data
    classes: list[str]  # names [C]
    borders: list[float]  # where a number is cut into the classes; empty for a label of names
    folds: int  # of the split
    found: int  # folds whose predictions are here
    # [N]: person (SOURCE/NAME if two have that name), path, shot or "", photograph (its `image_names`; "" where the
    # shot identifies it)
    rows: pd.DataFrame
    truth: npt.NDArray[np.int64]  # class indices [N], the labels of the data
    probabilities: npt.NDArray[np.float64]  # [N, C]
    expected: npt.NDArray[np.float64] | None  # the predicted number [N] where all heads predict one


@pd.option_context("mode.string_storage", "python")  # Arrow's strings hold no names that are not UTF-8
def find_predictions(runs: Path, tasks: Sequence[str]) -> tuple[dict[str, OutOfFoldPredictions], list[str]]:
    """Read the out-of-fold predictions of one task for each label, and explain which tasks are left out.

    `runs` holds `<task>/fold-<k>/validation.npz` or `<task>/validation.npz`; folds go before a single run.
    Without `tasks`, each label's task with most of its folds is used (the first by name), none of joint labels.

    Raises:
        InputError: no predictions (of a named task), or such that cannot be read or do not fit together; a
            named task of a joint label, or of the same label as another.
    """
    read = {task: read_folds(files) for task, files in _validation_files(runs, tasks).items()}
    joint = [task for task, each in read.items() if not each.column]
    if joint and (tasks or len(joint) == len(read)):
        expected = "expected heads of one label: train them with train_task.py --task NAME --fold K"
        raise InputError(f"{runs}: {', '.join(joint)} predict a joint label, {expected}")
    chosen: dict[str, str] = {}
    for task in sorted(read.keys() - set(joint), key=lambda task: (-read[task].found / read[task].folds, task)):
        chosen.setdefault(read[task].column, task)
    # Two heads could suggest two values for one person, and contradicting corrections are refused.
    others = {t: chosen[each.column] for t, each in read.items() if each.column and chosen[each.column] != t}
    if tasks:
        problems = [f"{other} and {task} predict {read[task].column!r}" for task, other in others.items()]
        raise_all("--task: several heads of one label, expected one for each label; name one of the two", problems)
    left_out = [f"{task}: left out, it predicts a joint label, not a single column" for task in joint]
    for task, other in others.items():
        counts = [f"{read[each].found} of {read[each].folds} folds" for each in (task, other)]
        left_out.append(
            f"{task}: left out ({counts[0]}), {other} ({counts[1]}) predicts {read[task].column!r} too; "
            f"--task {task} uses it instead"
        )
    return {task: each for task, each in read.items() if task in chosen.values()}, left_out


def _validation_files(runs: Path, tasks: Sequence[str]) -> dict[str, list[Path]]:
    """The files of each task that has some; all those named, or else at least one task, must."""
    folders = {path.name: path for path in sorted(runs.glob("*")) if path.is_dir()}
    files = {
        name: sorted(folders[name].glob(f"fold-*/{VALIDATION}")) or list(folders[name].glob(VALIDATION))
        for name in tasks or folders
        if name in folders
    }
    missing = [name for name in tasks if not files.get(name)]
    if missing or not any(files.values()):
        found = f"{runs}: found no {VALIDATION} of {', '.join(missing) or 'any task'}"
        expected = "expected runs/<task>/fold-<k>/: train them with train_task.py --task NAME --fold K"
        raise InputError(f"{found}, {expected}")
    return {name: found for name, found in files.items() if found}


def read_folds(files: Sequence[Path]) -> OutOfFoldPredictions:
    """Join the validation.npz files of one task's folds.

    Raises:
        InputError: a file cannot be read or lacks an array, folds have different classes, or two folds
            validate on one image, so that one of them was trained on it.
    """
    parts = [read_validation(path) for path in files]
    first = parts[0]
    for path, part in zip(files, parts, strict=True):
        for key in ("column", "classes", "borders", "folds"):
            found, expected = part[key].tolist(), first[key].tolist()
            if found != expected:
                raise InputError(f"{path}: {key} is {found!r}, expected {expected!r} as in {files[0]}")
    rows = pd.concat([pd.DataFrame({key: part[key] for key in ("source", "person", "path", "shot")}) for part in parts])
    rows = rows.reset_index(drop=True)
    several = rows.groupby("person")["source"].transform("nunique") > 1
    full_names = list(map(person_in_source, rows["source"], rows["person"]))
    rows["person"] = np.where(several, full_names, rows["person"])
    ambiguous = rows.duplicated(["person", "shot"], keep=False) | (rows["shot"] == "")
    rows["photograph"] = np.where(ambiguous, image_names(rows["person"].tolist(), rows["path"].tolist()), "")
    repeated = rows["path"][rows["path"].duplicated()]
    if len(repeated):
        found = f"{files[0].parent.parent}: two folds validate on {len(repeated)} images, such as {repeated.iloc[0]}"
        raise InputError(f"{found}; expected folds of one split, trained on the same data")
    numbers = all("expected" in part for part in parts)  # some folds may predict classes alone
    return OutOfFoldPredictions(
        column=str(first["column"]),
        classes=first["classes"].astype(str).tolist(),
        borders=first["borders"].tolist(),
        folds=int(first["folds"]),
        found=len(parts),
        rows=rows,
        truth=np.concatenate([part["truth"] for part in parts]),
        probabilities=np.concatenate([part["probabilities"] for part in parts]).astype(np.float64),
        expected=np.concatenate([part["expected"] for part in parts]) if numbers else None,
    )
