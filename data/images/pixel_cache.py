"""Images decoded once and scaled down to the working size, in one file that heads, folds and epochs share.

A cache stands for exactly the images that it was made from: its name is a digest of their paths, sizes and
times of change and of the working size (`data.images.array_cache` has what follows from that).
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.images.array_cache import open_array
from data.images.decode import decode
from data.runtime.errors import InputError, raise_all
from data.runtime.processes import parallel_map
from data.transforms.pipeline import Pipeline

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

FORMAT = 2
SHAPE_BYTES = 4  # height and width of the scaled image before its pixels, two bytes each
CHUNK = 64


class PixelCache:
    """Reads the images of one cache file.

    Args:
        file: made by `open_cache`.
        paths: of its images, in its order.
        size: height and width that the larger of them were scaled to fit.
    """

    def __init__(self, file: Path, paths: Sequence[str], size: Size) -> None:
        self.file, self.size = file, size
        self._places = {path: place for place, path in enumerate(paths)}

    @cached_property
    def _slots(self) -> npt.NDArray[np.uint8]:
        # Mapped where it is first read: each loader worker maps the file itself, and the pages are shared.
        return np.load(self.file, mmap_mode="r")  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_slots"}

    def read(self, path: Path) -> Pixels:
        """An image as uint8 RGB [h, w, 3], at most `size`; KeyError for one that is not in the cache."""
        slot = self._slots[self._places[str(path)]]
        height, width = np.frombuffer(slot[:SHAPE_BYTES].tobytes(), dtype="<u2").tolist()
        pixels = slot[SHAPE_BYTES : SHAPE_BYTES + height * width * 3]
        return np.array(pixels).reshape(height, width, 3)


def bytes_needed(images: int, size: Size) -> int:
    """How large a cache of so many images becomes, in bytes.

    >>> bytes_needed(1000, (128, 96)) / 1e6
    36.868
    """
    return images * (SHAPE_BYTES + size[0] * size[1] * 3)


@dataclass(frozen=True)
class CachedReader:
    """Reads images out of several caches: each path's."""

    caches: Mapping[str, PixelCache]

    def __call__(self, path: Path) -> Pixels:
        return self.caches[str(path)].read(path)

    @property
    def files(self) -> set[Path]:
        """The caches' files."""
        return {cache.file for cache in self.caches.values()}


def open_cache(
    folder: Path,
    paths: Sequence[str],
    size: Size,
    limit: int,
    processes: int | None = None,
    read: Callable[[Path], Pixels] = decode,
    mark: str = "",
    in_use: Collection[Path] = (),
) -> PixelCache:
    """Find the cache of `paths` in `folder`, or make it; another process that makes one is waited for.

    Args:
        folder: holds the caches of any number of data folders and sizes.
        paths: of the images; order and repetition do not matter.
        size: height and width that larger ones are scaled to fit, as the step `fit` does.
        limit: bytes that all caches of the folder may take; older ones make room.
        processes: that decode; None for one a core.
        read: gives an image's pixels.
        mark: tells one `read` from another: caches of different marks are different caches.
        in_use: files of the folder that this run reads as well, which are not removed.

    Raises:
        InputError: the cache would be larger than `limit`, or images cannot be decoded; all of these are
            told.
    """
    ordered = sorted(set(paths))
    shape = (len(ordered), bytes_needed(1, size))
    what = f"a cache of {len(ordered)} images at {size[0]} x {size[1]}"
    name = f"pixels-{_digest(ordered, size, mark)}"
    fill = partial(_write, ordered, size, processes, read)
    return PixelCache(open_array(folder, name, shape, np.uint8, limit, fill, what, in_use), ordered, size)


def make_cached_reader(
    folder: Path,
    table: pd.DataFrame,
    size: Size,
    limit: int,
    processes: int | None = None,
    read: Callable[[Path], Pixels] = decode,
    mark: str = "",
) -> CachedReader:
    """What reads the images of `table` (`source` and `path`) from caches in `folder`.

    Each source has a cache of its own, whole, so that heads that share a source share its cache, whichever of
    its rows they take and whatever else they read. Arguments and errors are those of `open_cache`.
    """
    caches: dict[str, PixelCache] = {}
    for _, rows in table.groupby("source"):
        in_use = {cache.file for cache in caches.values()}
        cache = open_cache(folder, rows["path"].tolist(), size, limit, processes, read, mark, in_use)
        caches |= dict.fromkeys(rows["path"], cache)
    return CachedReader(caches)


def stat_files(paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """Path, size and time of change of files as they lie on the disk now; all that are missing are told."""
    entries = []
    missing = []
    for path in paths:
        try:
            status = Path(path).stat()
        except OSError as error:
            missing.append(f"{path}: cannot be read ({error.strerror})")
        else:
            entries.append((path, status.st_size, status.st_mtime_ns))
    raise_all("images are missing", missing)
    return entries


def _digest(paths: Sequence[str], size: Size, mark: str) -> str:
    """A name for the images as they lie on the disk now, at this size."""
    text = json.dumps([FORMAT, size, stat_files(paths), *([mark] if mark else [])])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _write(
    paths: Sequence[str], size: Size, processes: int | None, read: Callable[[Path], Pixels], file: Path
) -> None:
    started = time.perf_counter()
    width = bytes_needed(1, size)
    print(f"cache: decoding {len(paths)} images once, {len(paths) * width / 1e9:.2f} GB in {file.parent}")
    starts = range(0, len(paths), CHUNK)
    fill = partial(_fill, file, list(paths), size, read)
    problems = [problem for found in parallel_map(fill, starts, processes) for problem in found]
    raise_all("images cannot be read; replace or remove them", problems)
    print(f"cache: made in {time.perf_counter() - started:.1f} s", flush=True)


def _fill(
    file: Path, paths: Sequence[str], size: Size, read: Callable[[Path], Pixels], start: int
) -> list[str]:
    """Decode one chunk into its slots; returns what is wrong with images that cannot be."""
    slots = np.load(file, mmap_mode="r+")
    fit = Pipeline([{"fit": {"height": size[0], "width": size[1]}}])
    problems = []
    for place in range(start, min(start + CHUNK, len(paths))):
        try:
            pixels = read(Path(paths[place]))
            if pixels.shape[0] > size[0] or pixels.shape[1] > size[1]:  # letterboxes enlarge what is smaller
                pixels = fit(pixels, (0,))
        except InputError as error:
            problems.append(str(error))
            continue
        flat = np.r_[np.frombuffer(np.array(pixels.shape[:2], dtype="<u2").tobytes(), np.uint8), pixels.ravel()]
        slots[place, : len(flat)] = flat
    slots.flush()
    return problems
