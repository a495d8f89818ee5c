"""Decoded images, scaled to the working size and cached in files that heads, folds and epochs share.

A file's name holds a digest of all that its content depends on, so an outdated file is never found. It is
written beside its place and renamed when complete, so an unfinished file is never found either.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from data.images.decode import Pixels, Read, decode, decoder_versions
from data.runtime.errors import InputError, raise_all
from data.runtime.files import hold_lock, remove_unfinished, write_atomically
from data.runtime.processes import parallel_map
from data.transforms.pipeline import Pipeline

FORMAT = 2
SHAPE_BYTES = 4  # height and width of the scaled image before its pixels, two bytes each
LISTED = 5  # files that a full cache names
CHUNK = 64
KINDS = ("pixels", "features")  # the names of arrays begin with these


class CachedReader:
    """Reader of cached images, scaled down to the working size; `files` has each file's images, in its order."""

    def __init__(self, files: Mapping[Path, Sequence[str]]) -> None:
        self.files = list(files)
        self._places = {path: (file, row) for file, paths in files.items() for row, path in enumerate(paths)}

    def __call__(self, path: Path) -> Pixels:
        file, row = self._places[str(path)]
        slot = map_array(file)[row]
        height, width = slot[:SHAPE_BYTES].view("<u2").tolist()
        pixels = slot[SHAPE_BYTES : SHAPE_BYTES + height * width * 3]
        return np.array(pixels).reshape(height, width, 3)


@cache
def map_array(file: Path) -> npt.NDArray[Any]:
    """Map an .npy file; each data loader worker maps it at its first read, and the pages are shared."""
    array: npt.NDArray[Any] = np.load(file, mmap_mode="r")
    return array


def make_cached_reader(
    folder: Path,
    table: pd.DataFrame,
    size: tuple[int, int],
    limit: int,
    processes: int | None = None,
    read: Read = decode,
    mark: str = "",
) -> CachedReader:
    """Make a reader of the images of `table` (`source` and `path`), which are cached in `folder`.

    Each source has a file of its own, so heads that share a source share its file, whichever rows they use.

    Args:
        size: height and width that larger images are scaled to fit, as by the step `fit`.
        limit: bytes that all files of the folder may take.
        processes: for decoding; None for one per core.
        mark: distinguishes the files of different `read`.

    Raises:
        InputError: the limit is exceeded, or images are missing or cannot be decoded; all are listed.
    """
    files = {}
    made_by = [*decoder_versions(), cv2.__version__]  # OpenCV scales
    for _, rows in table.groupby("source"):
        paths = sorted(set(rows["path"]))
        text = json.dumps([FORMAT, made_by, size, stat_files(paths), *([mark] if mark else [])])
        name = f"pixels-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}"
        shape = (len(paths), SHAPE_BYTES + size[0] * size[1] * 3)
        fill = partial(_decode_all, paths, size, processes, read)
        what = f"a cache of {len(paths)} images at {size[0]} x {size[1]}"
        files[open_array(folder, name, shape, np.uint8, limit, fill, what)] = paths
    return CachedReader(files)


def open_array(
    folder: Path,
    name: str,
    shape: Sequence[int],
    kind: npt.DTypeLike,
    limit: int,
    fill: Callable[[Path], None],
    what: str,
) -> Path:
    """Find the array `name` in `folder`, or make it; wait for another process that makes one there.

    Args:
        name: one of `KINDS`, a dash and a digest of all that the array depends on.
        shape, kind: that the array must have; kind is a NumPy dtype.
        limit: bytes that all arrays of the folder may take.
        fill: writes the values into the .npy file at the given path, which has that shape.
        what: the array in words, for messages.

    Raises:
        InputError: the array and the other ones in the folder would take more than `limit`.
    """
    file = folder / f"{name}.npy"
    waiting = f"{folder}: waiting for another process that makes a cache there"
    with hold_lock(folder / ".lock", str(folder), waiting):
        if not _is_complete(file, shape, kind):
            _check_limit(folder, file, what, math.prod(shape) * np.dtype(kind).itemsize, limit)
            remove_unfinished(folder, f"{name.partition('-')[0]}-*")
            with write_atomically(file) as temporary:
                np.lib.format.open_memmap(temporary, "w+", np.dtype(kind), tuple(shape)).flush()
                if hasattr(os, "posix_fallocate"):  # else a full disk would kill the process as it fills the file
                    with temporary.open("r+b") as opened:
                        os.posix_fallocate(opened.fileno(), 0, temporary.stat().st_size)
                fill(temporary)
    return file


def stat_files(paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the path, size and modification time (ns) of files; `InputError` lists all that are missing."""
    entries, missing = [], []
    for path in paths:
        try:
            status = Path(path).stat()
        except OSError as error:
            missing.append(f"{path}: cannot be read ({error.strerror})")
        else:
            entries.append((path, status.st_size, status.st_mtime_ns))
    raise_all("images are missing", missing)
    return entries


def _is_complete(file: Path, shape: Sequence[int], kind: npt.DTypeLike) -> bool:
    """Whether the file exists and holds a whole array of that shape."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return bool(array.shape == tuple(shape) and array.dtype == np.dtype(kind))


def _check_limit(folder: Path, file: Path, what: str, needed: int, limit: int) -> None:
    """Refuse an array that does not fit in the folder beside the other ones."""
    others = (other for kind in KINDS for other in folder.glob(f"{kind}-*.npy") if other != file)
    sizes = {other: other.stat().st_size for other in others}
    if needed + sum(sizes.values()) <= limit:
        return
    problem = (
        f"{folder}: {what} takes {needed / 1e9:.2f} GB, with the other files there more than the "
        f"{limit / 1e9:.2f} GB of --cache-limit; allow more or leave --cache out"
    )
    largest = sorted(sizes, key=lambda other: -sizes[other])[:LISTED]
    if largest:
        files = ", ".join(f"{other.name} ({sizes[other] / 1e9:.2f} GB)" for other in largest)
        problem += f"; a run makes files that were deleted again; the largest are {files}"
    raise InputError(problem)


def _decode_all(paths: Sequence[str], size: tuple[int, int], processes: int | None, read: Read, file: Path) -> None:
    """Decode all images into the file."""
    started = time.perf_counter()
    print(f"cache: decoding {len(paths)} images once, {file.stat().st_size / 1e9:.2f} GB in {file.parent}")
    chunks = ((start, paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK))
    errors = parallel_map(partial(_decode_chunk, file, size, read), chunks, processes)
    raise_all("images cannot be read; replace or remove them", [error for chunk in errors for error in chunk])
    print(f"cache: made in {time.perf_counter() - started:.1f} s", flush=True)


def _decode_chunk(file: Path, size: tuple[int, int], read: Read, chunk: tuple[int, Sequence[str]]) -> list[str]:
    """Decode the images of some rows into their slots; return the errors of those that cannot be decoded."""
    slots = np.load(file, mmap_mode="r+")
    fit = Pipeline([{"fit": {"height": size[0], "width": size[1]}}])
    start, paths = chunk
    errors = []
    for row, path in enumerate(paths, start):
        try:
            pixels = read(Path(path))
        except InputError as error:
            errors.append(str(error))
            continue
        if pixels.shape[0] > size[0] or pixels.shape[1] > size[1]:  # smaller ones are enlarged after reading
            pixels = fit(pixels, (0,))
        shape = np.array(pixels.shape[:2], dtype="<u2").view(np.uint8)
        slots[row, : SHAPE_BYTES + pixels.size] = np.r_[shape, pixels.ravel()]
    slots.flush()
    return errors
