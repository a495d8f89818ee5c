"""A run's validation.npz: its predictions for its validation set."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.runtime.arrays import read_arrays
from data.runtime.errors import InputError

VALIDATION = "validation.npz"
PER_IMAGE = ("person", "path", "shot", "truth")
NEEDED = (*PER_IMAGE, "probabilities", "column", "borders", "folds", "classes")


def read_validation(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a run's validation.npz: those of `NEEDED`, and others that only some heads have.

    `probabilities` is [N, C]; `source`, `person`, `path`, `shot`, `truth` (class indices) and, of heads that predict
    a number, `expected` are [N]. Version 0.1 wrote source and person as one text, which is split here.

    Raises:
        InputError: it cannot be read, would need a pickle, lacks an array, or its arrays differ in length.
    """
    arrays = read_arrays(path, f"the {VALIDATION} of a run")
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; train again: train_task.py writes them")
    count, classes = np.size(arrays["truth"]), np.size(arrays["classes"])
    shapes = {"probabilities": (count, classes)} | dict.fromkeys(PER_IMAGE, (count,))
    wrong = [f"{name} {arrays[name].shape}" for name, shape in shapes.items() if arrays[name].shape != shape]
    if wrong:
        raise InputError(f"{path}: holds {', '.join(wrong)}; expected N = {count} rows and C = {classes} classes")
    if "source" not in arrays:
        from data.annotations.table import split_old_person  # late: it imports pandas

        old = [split_old_person(person) for person in arrays["person"].astype(str).tolist()]
        arrays["source"] = np.array(["".join(sources[:1]) for sources, _ in old], dtype=np.str_)
        arrays["person"] = np.array([person for _, person in old], dtype=np.str_)
    return arrays
