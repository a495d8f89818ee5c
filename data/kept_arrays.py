"""Arrays that take long to make, each made once and kept as one .npy file in a folder of bounded size.

An array's name holds a digest of all that it was made from, so that one that is out of date is never found. It
is written beside its place and renamed when whole, so that one that was interrupted is never found either.
"""

import math
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.errors import InputError
from data.files import written_whole
from data.locks import held

KINDS = ("pixels", "features")  # what names begin with: nothing else in the folder is ever removed


def array_bytes(shape: Sequence[int], kind: npt.DTypeLike) -> int:
    """What an array takes, in bytes.

    >>> array_bytes((1000, 512), np.float32)
    2048000
    """
    return math.prod(shape) * np.dtype(kind).itemsize


def open_array(
    folder: Path,
    name: str,
    shape: Sequence[int],
    kind: npt.DTypeLike,
    limit: int,
    fill: Callable[[Path], None],
    what: str,
    in_use: Collection[Path] = (),
) -> Path:
    """Find the array `name` in `folder`, or make it; another process that makes one is waited for.

    Args:
        folder: holds any number of arrays.
        name: one of `KINDS`, a dash and a digest of all that the array depends on.
        shape, kind: that the array must have; kind is a NumPy dtype.
        limit: bytes that all arrays of the folder may take; the longest unused make room.
        fill: writes the values into the .npy file that it is given, which has the room but no values yet.
        what: the array in words, for messages.
        in_use: arrays of the folder that this run reads, which are not removed.

    Raises:
        InputError: the array and those in use would together be larger than `limit`.
    """
    file = folder / f"{name}.npy"
    needed = array_bytes(shape, kind)
    others = sum(other.stat().st_size for other in set(in_use) - {file})
    if needed + others > limit:
        beside = f" beside {others / 1e9:.2f} GB in use" if others else ""
        allowed = f"more than the {limit / 1e9:.2f} GB allowed; allow more or leave it out"
        raise InputError(f"{folder}: {what} takes {needed / 1e9:.2f} GB{beside}, {allowed}")
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / ".lock", str(folder), f"{folder}: waiting for another process that makes a cache there"):
        if not _is_whole(file, shape, kind):
            _make_room(folder, {file, *in_use}, limit - needed - others)
            with written_whole(file) as temporary:
                np.lib.format.open_memmap(temporary, "w+", np.dtype(kind), tuple(shape)).flush()
                _claim(temporary)
                fill(temporary)
    file.touch()  # the time of change says which array was used last
    return file


def _is_whole(file: Path, shape: Sequence[int], kind: npt.DTypeLike) -> bool:
    """Whether the file is there with the shape that it must have; a part of one is not."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return bool(array.shape == tuple(shape) and array.dtype == np.dtype(kind))


def _make_room(folder: Path, kept: Collection[Path], left: int) -> None:
    """Remove what interrupted runs left behind and, the longest unused first, arrays beyond `left` bytes."""
    for remains in [path for kind in KINDS for path in folder.glob(f".{kind}-*")]:
        remains.unlink(missing_ok=True)
    files = [path for kind in KINDS for path in folder.glob(f"{kind}-*.npy") if path not in kept]
    total = 0
    for other in sorted(files, key=lambda path: -path.stat().st_mtime):
        total += other.stat().st_size
        if total > left:
            other.unlink(missing_ok=True)


def _claim(file: Path) -> None:
    """Take the room that the file needs now: on a full disk, writing to mapped memory would end the process."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
