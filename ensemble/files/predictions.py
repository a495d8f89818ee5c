"""probabilities.npz: what every head said of every image, as `combine.py` leaves it for whoever looks closer.

Arrays: `ImageID` [N]; for each task `NAME` [N, C] (all views merged), `NAME/identity` [N, C] (the plain view
alone) and `NAME/classes` [C]. Rows of probabilities sum to 1. A task that predicts a number has `NAME/number`
[N], in its unit (NaN: the image could not be seen). Where not every image was shown in all views, `NAME/views`
[N] says in how many (0: it could not be seen); where that is 1, `NAME` is `NAME/identity`.
"""

import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.annotations.listing import ID
from data.runtime.errors import InputError
from data.runtime.files import write_atomically

FILE_NAME = "probabilities.npz"
IDENTITY, CLASSES, VIEWS, NUMBER = "identity", "classes", "views", "number"
CHUNK = 4096
# What numpy and zipfile raise on bytes that break the format's rules; MemoryError: a header that lies.
BROKEN = (
    *(OSError, ValueError, EOFError, SyntaxError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(AttributeError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


def write_probabilities(
    path: Path,
    ids: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    parts: Iterable[Mapping[str, Any]],
    with_views: bool = False,
    numbers: Collection[str] = (),
) -> None:
    """Write `ids` [N] and each task's probabilities to one .npz, whole or not at all, and a part at a time.

    Args:
        path: of the file.
        ids: of all images.
        classes: each task's class names.
        parts: arrays `NAME` and `NAME/identity` [B, C] of consecutive images; gone through once for each array.
        with_views: the parts have `NAME/views` [B] as well.
        numbers: tasks of which they have `NAME/number` [B].
    """
    rows = len(ids)
    with write_atomically(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        text = np.dtype(("U", max(map(len, ids), default=1)))
        chunks = (np.array(ids[start : start + CHUNK], dtype=text) for start in range(0, rows, CHUNK))
        _write_array(archive, ID, text, (rows,), chunks)
        for task, names in classes.items():
            for name in (task, f"{task}/{IDENTITY}"):
                _write_array(archive, name, np.dtype("<f4"), (rows, len(names)), _each(parts, name))
            if task in numbers:
                name = f"{task}/{NUMBER}"
                _write_array(archive, name, np.dtype("<f4"), (rows,), _each(parts, name))
            if with_views:
                name = f"{task}/{VIEWS}"
                _write_array(archive, name, np.dtype("u1"), (rows,), _each(parts, name))
            held = np.array(names, dtype=np.str_)
            _write_array(archive, f"{task}/{CLASSES}", held.dtype, held.shape, [held])


def _each(parts: Iterable[Mapping[str, Any]], name: str) -> Iterator[npt.NDArray[Any]]:
    return (part[name] for part in parts)


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    chunks: Iterable[npt.NDArray[Any]],
) -> None:
    """Write one array as numpy's savez does, out of its rows in chunks."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, dtype).tobytes())


def read_arrays(path: Path, expected: str = "the .npz file of combine.py") -> dict[str, Any]:
    """The arrays of a .npz file by name; InputError if it is not `expected`, or would need a pickle."""
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            path.open("rb") as file,
        ):  # numpy leaves a file open that it opened and could not read
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: archive[name] for name in archive.files}
    except BROKEN as error:
        raise InputError(f"{path}: cannot be read ({error}), expected {expected}") from None
