"""Results on their way to the submission: kept in parts beside it, so that a run that was killed goes on.

A part holds the probabilities of consecutive rows of the listing. It is trusted only if its bytes have the
checksum in its name, if it was made by the same heads and options (the folder's name), and if its images are as
they were; what follows one that is not is made anew.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.runtime.files import remove_unfinished, write_atomically

FORMAT = 3  # 2: images decoded at the smallest JPEG scale that covers what is shown; 3: with numbers
ROWS = 1024  # in a part; what a kill can cost
Arrays = Mapping[str, npt.NDArray[Any]]


def make_key(heads: Mapping[str, Sequence[str]], options: Mapping[str, object]) -> str:
    """A name for what decides the results beside the images: each task's checksums of heads, and options."""
    text = json.dumps([FORMAT, dict(heads), {name: str(value) for name, value in sorted(options.items())}])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def fingerprint(paths: Sequence[Path]) -> str:
    """A name for images as they lie on the disk now: their paths, sizes and times of change."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
            entry = [str(path), status.st_size, status.st_mtime_ns]
        except OSError:
            entry = [str(path)]
        digest.update(json.dumps(entry).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


@dataclass
class ResultParts:
    """The parts of one listing.

    Attributes:
        place: folder of all parts of one submission.
        key: from `make_key`; parts under another key are removed.
        paths: of all images, in order.
    """

    place: Path
    key: str
    paths: Sequence[Path]

    @property
    def folder(self) -> Path:
        """Where the parts under this key lie."""
        return self.place / self.key

    def finished(self, together: int) -> int:
        """How many rows, from the first on, are there to be trusted; removes all that are not.

        They end where rows that are computed `together` do (a batch, or several): among others the last bits
        of the results would be other ones.
        """
        for other in self.place.glob("*"):
            if other.name != self.key and not other.name.startswith("."):
                shutil.rmtree(other)
        remove_unfinished(self.folder)
        rows = 0
        for file in sorted(self.folder.glob("part-*.npz")):
            start, stop = (int(number) for number in file.stem.split("-")[1:3])
            ends_well = stop % together == 0 or stop == len(self.paths)
            if start == rows and ends_well and self._is_sound(file, start, stop):
                rows = stop
            else:
                file.unlink()
        return rows

    def write(self, start: int, arrays: Arrays) -> None:
        """Keep the arrays [B, ...] of the rows from `start` on."""
        stop = start + len(next(iter(arrays.values())))
        buffer = io.BytesIO()
        np.savez(
            buffer, allow_pickle=False, **{**arrays, "images": np.array(fingerprint(self.paths[start:stop]))}
        )
        content = buffer.getvalue()
        name = f"part-{start:09d}-{stop:09d}-{_checksum(content)}.npz"
        with write_atomically(self.folder / name) as temporary:
            temporary.write_bytes(content)

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Each part's arrays, in order; one part is in memory at a time."""
        for file in sorted(self.folder.glob("part-*.npz")):
            with np.load(file, allow_pickle=False) as arrays:
                yield dict(arrays)

    def remove(self) -> None:
        """Remove all parts: the submission is there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # holds parts under another key, or was never made
            self.place.rmdir()

    def _is_sound(self, file: Path, start: int, stop: int) -> bool:
        content = file.read_bytes()
        if _checksum(content) != file.stem.split("-")[3]:
            return False
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return str(arrays["images"]) == fingerprint(self.paths[start:stop])


def window_size(batch_size: int) -> int:
    """Rows of the parts that a `Collector` makes: `ROWS`, made up to whole batches."""
    return -(-ROWS // batch_size) * batch_size


class Collector:
    """Gathers batches into parts of at least `ROWS` rows."""

    def __init__(self, parts: ResultParts, start: int) -> None:
        self.parts, self.start = parts, start
        self._batches: list[Arrays] = []

    def add(self, batch: Arrays) -> None:
        """Take one batch of arrays [B, ...]."""
        self._batches.append(batch)
        if sum(len(next(iter(arrays.values()))) for arrays in self._batches) >= ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._batches:
            arrays = {n: np.concatenate([batch[n] for batch in self._batches]) for n in self._batches[0]}
            self._batches = []
            self.parts.write(self.start, arrays)
            self.start += len(next(iter(arrays.values())))


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
