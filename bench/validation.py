"""Predictions on validation images as arrays by name, with one row per image, and rows aligned across heads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data.audit.validation import read_validation
from data.runtime.errors import InputError
from heads.run.folder import RunFolder

Arrays = dict[str, npt.NDArray[Any]]
NAMES = (
    "path",
    "person",
    "truth",
    "probabilities",
    "expected",
    "value",
)  # the latter two if a head predicts numbers


def read_predictions(folder: RunFolder) -> Arrays:
    """Read a run's predictions: `truth` and `person` [N], `probabilities` [N, C] and others of NAMES."""
    arrays = read_validation(folder.validation)
    return {name: arrays[name] for name in NAMES if name in arrays}


def concat(parts: Sequence[Arrays]) -> Arrays:
    """Concatenate the images of several parts."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def select(arrays: Arrays, paths: Sequence[str]) -> Arrays:
    """Select images by path, in that order."""
    places = {path: row for row, path in enumerate(arrays["path"].tolist())}
    rows = np.array([places[path] for path in paths], dtype=np.int64)
    return {name: array[rows] for name, array in arrays.items()}


def select_shared(heads: Sequence[Arrays]) -> list[Arrays]:
    """Restrict several heads to the images that all of them have, in one order; InputError if there is none."""
    paths = sorted(set.intersection(*(set(head["path"].tolist()) for head in heads)))
    if not paths:
        raise InputError("no image is in the validation sets of all heads, expected heads of one split and data set")
    return [select(head, paths) for head in heads]
