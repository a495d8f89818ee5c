"""A run's validation.npz: its predictions for its validation set."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.runtime.arrays import read_arrays
from data.runtime.errors import InputError, raise_all

VALIDATION = "validation.npz"
KINDS = {"text": "U", "whole numbers": "iu", "numbers": "iuf"}  # of NumPy
# What each array holds, and its dimensions: N images, C classes, B borders.
NEEDED = {
    **dict.fromkeys(("person", "path", "shot"), ("text", "N")),
    "truth": ("whole numbers", "N"),
    "probabilities": ("numbers", "NC"),
    "column": ("text", ""),
    "borders": ("numbers", "B"),
    "folds": ("whole numbers", ""),
    "classes": ("text", "C"),
}
ARRAYS = {**NEEDED, "source": ("text", "N"), "expected": ("numbers", "N"), "value": ("numbers", "N")}


def read_validation(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a run's validation.npz: those of `NEEDED`, and others that only some heads have.

    `truth` has class indices; heads that predict a number have `expected` and the labels' `value`. Version 0.1 wrote
    source and person as one text, which is split here.

    Raises:
        InputError: it cannot be read, would need a pickle, lacks an array, or one is not as `ARRAYS` describes it.
    """
    arrays = read_arrays(path, f"the {VALIDATION} of a run")
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; train again: train_task.py writes them")
    sizes = {size: arrays[name].size for size, name in (("N", "truth"), ("C", "classes"), ("B", "borders"))}
    problems = []
    for name in arrays.keys() & ARRAYS:
        array, (kind, dimensions) = arrays[name], ARRAYS[name]
        shape = tuple(sizes[size] for size in dimensions)
        if array.dtype.kind not in KINDS[kind] or array.shape != shape:
            problems.append(f"{name}: {array.dtype} {array.shape}, expected {kind} {shape}")
    truth = arrays["truth"]
    if not problems and sizes["N"] and not 0 <= truth.min() <= truth.max() < sizes["C"]:
        problems.append(f"truth: class indices from {truth.min()} to {truth.max()}, expected 0 to {sizes['C'] - 1}")
    raise_all(f"{path}: wrong arrays; train again", sorted(problems))
    if "source" not in arrays:
        from data.annotations.table import split_old_person  # late: it imports pandas

        old = [split_old_person(person) for person in arrays["person"].tolist()]
        arrays["source"] = np.array(["".join(sources[:1]) for sources, _ in old], dtype=np.str_)
        arrays["person"] = np.array([person for _, person in old], dtype=np.str_)
    return arrays
