"""probabilities.npz: what every head said of every image, as `combine.py` leaves it for whoever looks closer.

Arrays: `ImageID` [N]; for each task `NAME` [N, C] (all views merged), `NAME/identity` [N, C] (the plain view
alone) and `NAME/classes` [C]. Rows of probabilities sum to 1.
"""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.errors import InputError
from heads.run import write_arrays

ID = "ImageID"
FILE_NAME = "probabilities.npz"


@dataclass(frozen=True)
class TaskProbabilities:
    """One task's probabilities [N, C]: all views merged, and the identity view alone; and its class names."""

    merged: npt.NDArray[np.float32]
    identity: npt.NDArray[np.float32]
    classes: Sequence[str]


def write_probabilities(path: Path, ids: Sequence[str], tasks: Mapping[str, TaskProbabilities]) -> None:
    """Write `ids` [N] and each task's probabilities to one .npz, whole or not at all."""
    arrays: dict[str, Any] = {ID: np.array(ids, dtype=np.str_)}
    for name, task in tasks.items():
        arrays[name] = task.merged
        arrays[f"{name}/identity"] = task.identity
        arrays[f"{name}/classes"] = np.array(task.classes, dtype=np.str_)
    write_arrays(path, arrays)


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of such a file by name; InputError if it cannot be read or would need a pickle."""
    try:
        with path.open("rb") as file:  # numpy leaves a file open that it opened and could not read
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}), expected the .npz file of combine.py") from None
