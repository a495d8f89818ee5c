"""NumPy's .npz files, which may be damaged or hostile."""

import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.runtime.errors import InputError
from data.runtime.files import write_atomically

UNREADABLE = (  # what numpy raises on damaged .npz files
    *(OSError, ValueError, EOFError, SyntaxError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(AttributeError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


def read_arrays(path: Path, expected: str) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a .npz file by name, without unpickling; `InputError` names what was `expected`."""
    try:
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)  # given a path, numpy leaves unreadable files open
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({error}), expected {expected}") from None


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as .npz; text is stored as fixed-width unicode, which needs no pickle."""
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{n: np.asarray(array) for n, array in arrays.items()})
