"""Arrays that take long to make, each made once and kept as one .npy file in a folder of bounded size.

An array's name holds a digest of all that it was made from, so that one that is out of date is never found. It
is written beside its place and renamed when whole, so that one that was interrupted is never found either. One
that a process reads is locked (flock) until it reads others, or ends, and is not removed.
"""

import fcntl
import math
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.runtime.errors import InputError
from data.runtime.files import write_atomically
from data.runtime.locks import TAKEN, hold_lock

KINDS = ("pixels", "features")  # what names begin with: nothing else in the folder is ever removed

# What this process reads, locked (its descriptors): loader workers map the files by their names, and later.
_USED: dict[Path, int] = {}


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
        limit: bytes that all arrays of the folder may take; the longest unused make room, but for those that
            a process reads.
        fill: writes the values into the .npy file that it is given, which has the room but no values yet.
        what: the array in words, for messages.
        in_use: arrays of the folder that this process reads beside it; others that it has opened may go.

    Raises:
        InputError: the array and those in use, by this run or another, would together be larger than `limit`.
    """
    file = folder / f"{name}.npy"
    needed = array_bytes(shape, kind)
    _refuse_too_large(folder, what, needed, sum(other.stat().st_size for other in set(in_use) - {file}), limit)
    folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(
        folder / ".lock", str(folder), f"{folder}: waiting for another process that makes a cache there"
    ):
        for other in [used for used in _USED if used.parent == folder and used not in in_use]:
            os.close(_USED.pop(other))
        if not _is_whole(file, shape, kind):
            _refuse_too_large(folder, what, needed, _make_room(folder, file, in_use, limit - needed), limit)
            with write_atomically(file) as temporary:
                np.lib.format.open_memmap(temporary, "w+", np.dtype(kind), tuple(shape)).flush()
                _allocate(temporary)
                fill(temporary)
        os.utime(file)  # the time of change says which array was used last
        _lock_shared(file)
    return file


def _refuse_too_large(folder: Path, what: str, needed: int, others: int, limit: int) -> None:
    if needed + others > limit:
        beside = f" beside {others / 1e9:.2f} GB in use" if others else ""
        allowed = f"more than the {limit / 1e9:.2f} GB allowed; allow more or leave it out"
        raise InputError(f"{folder}: {what} takes {needed / 1e9:.2f} GB{beside}, {allowed}")


def _lock_shared(file: Path) -> None:
    """Keep other processes from removing the array."""
    if file in _USED:  # may have been made anew
        os.close(_USED.pop(file))
    opened = os.open(file, os.O_RDONLY)
    with suppress(OSError):  # a file system that knows no locks
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    _USED[file] = opened


def _is_used(file: Path) -> bool:
    """Whether a process has opened the array; False where the file system knows no locks."""
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in TAKEN
    return False


def _is_whole(file: Path, shape: Sequence[int], kind: npt.DTypeLike) -> bool:
    """Whether the file is there with the shape that it must have; a part of one is not."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return bool(array.shape == tuple(shape) and array.dtype == np.dtype(kind))


def _make_room(folder: Path, kept: Path, in_use: Collection[Path], left: int) -> int:
    """Remove what interrupted runs left behind and, the longest unused first, arrays beyond `left` bytes.

    Returns:
        The bytes of the arrays beside `kept` that stay: more than `left` where too many are in use.
    """
    for remains in [path for kind in KINDS for path in folder.glob(f".{kind}-*")]:
        remains.unlink(missing_ok=True)
    files = [path for kind in KINDS for path in folder.glob(f"{kind}-*.npy") if path != kept]
    used = [path for path in files if path in in_use or _is_used(path)]
    total = sum(path.stat().st_size for path in used)
    for other in sorted(set(files) - set(used), key=lambda path: -path.stat().st_mtime):
        size = other.stat().st_size
        if total + size > left:
            other.unlink()
        else:
            total += size
    return total


def _allocate(file: Path) -> None:
    """Take the room that the file needs now: on a full disk, writing to mapped memory would end the process."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
