"""NumPy's .npz files, which may be damaged or hostile."""

import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.runtime.errors import InputError

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
