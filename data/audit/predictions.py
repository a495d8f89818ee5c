"""Predictions that runs wrote on their validation sets."""

import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.corrections import image_names
from data.runtime.errors import InputError

NEEDED = ("person", "path", "shot", "column", "borders", "folds", "classes", "truth", "probabilities")


UNREADABLE = (  # what numpy raises on damaged .npz files
    *(OSError, ValueError, EOFError, SyntaxError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(AttributeError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """What a task's heads said of images whose people they were not trained on.

    Attributes:
        column: of the label.
        classes: names [C].
        borders: where a number is cut into the classes; empty for a label of names.
        folds: into how many the people were split; `found` of them are here.
        found: number of folds whose predictions are here.
        rows: person, path, shot (empty for none) and image (its name in corrections, as
            `data.annotations.corrections.image_names` has it; empty where the shot says enough) of each [N].
        truth: class indices [N], the labels as they stand.
        probabilities: [N, C].
        expected: the predicted number [N] where the head predicts one, else None.
    """

    column: str
    classes: list[str]
    borders: list[float]
    folds: int
    found: int
    rows: pd.DataFrame
    truth: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64] | None


def read_folds(files: Sequence[Path]) -> OutOfFoldPredictions:
    """Join the validation.npz files of one task's folds.

    Raises:
        InputError: a file that cannot be read or lacks something, folds of other classes, or an image that
            two folds validate on, so that one of them was trained on it.
    """
    parts = [read_validation(path) for path in files]
    for path, part in zip(files, parts, strict=True):
        if not str(part["column"]):
            raise InputError(f"{path}: is of a joint label, expected a head of one label")
    first = parts[0]
    for path, part in zip(files, parts, strict=True):
        for key in ("column", "classes", "borders", "folds"):
            if part[key].tolist() != first[key].tolist():
                its, wanted = part[key].tolist(), first[key].tolist()
                raise InputError(f"{path}: {key} is {its}, expected {wanted} as in {files[0]}")
    rows = pd.concat([pd.DataFrame({k: part[k] for k in ("person", "path", "shot")}) for part in parts])
    rows = rows.reset_index(drop=True)
    shared = rows.duplicated(["person", "shot"], keep=False) | (rows["shot"] == "")
    rows["photograph"] = np.where(shared, image_names(rows["person"].tolist(), rows["path"].tolist()), "")
    twice = rows["path"][rows["path"].duplicated()]
    if len(twice):
        raise InputError(
            f"{files[0].parent.parent}: {len(twice)} images are validated on by two folds, such as "
            f"{twice.iloc[0]}; expected folds of one split, trained on the same data"
        )
    return OutOfFoldPredictions(
        column=str(first["column"]),
        classes=first["classes"].astype(str).tolist(),
        borders=first["borders"].tolist(),
        folds=int(first["folds"]),
        found=len(parts),
        rows=rows,
        truth=np.concatenate([part["truth"] for part in parts]),
        probabilities=np.concatenate([part["probabilities"] for part in parts]).astype(np.float64),
        # Some folds may have been trained over numbers and others over classes: then there are none.
        expected=np.concatenate([part["expected"] for part in parts])
        if all("expected" in part for part in parts)
        else None,
    )


def is_joint(files: Sequence[Path]) -> bool:
    """Whether the validation.npz files are all of a joint label, which no column of the data holds.

    Raises:
        InputError: a file that cannot be read or lacks something.
    """
    return all(not str(read_validation(path)["column"]) for path in files)


def read_validation(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a run's validation.npz: those of `NEEDED`, and `expected` of heads that predict a number.

    `probabilities` is [N, C]; `person`, `path`, `shot` and `truth` (class indices) are [N].

    Raises:
        InputError: it cannot be read, would need a pickle, lacks an array, or its arrays differ in length.
    """
    arrays = read_arrays(path, "the validation.npz of a run")
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; train again: train_task.py writes them")
    count, classes = len(np.atleast_1d(arrays["truth"])), np.size(arrays["classes"])
    shapes = {"probabilities": (count, classes)} | dict.fromkeys(("person", "path", "shot", "truth"), (count,))
    wrong = [f"{name} {arrays[name].shape}" for name, shape in shapes.items() if arrays[name].shape != shape]
    if wrong:
        raise InputError(
            f"{path}: holds {', '.join(wrong)}; expected N = {count} rows and C = {classes} classes"
        )
    return arrays


def read_arrays(path: Path, expected: str) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a .npz file by name, without unpickling.

    Raises:
        InputError: it cannot be read, or would need a pickle; `expected` says what it should be.
    """
    try:
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)  # given a path, numpy leaves unreadable files open
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({error}), expected {expected}") from None
