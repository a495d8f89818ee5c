"""Predictions in parts beside the submission, so that an interrupted run resumes, and the files made of them.

A part holds the predictions of consecutive rows of the listing. It is used again only if its bytes have the checksum
in its name, if the same heads and options wrote it (the folder's name), and if its images are unchanged; all parts
after one that fails are predicted again.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.images.find import ID
from data.runtime.files import remove_unfinished, write_atomically
from data.runtime.signals import StopSignal
from ensemble.files.predictions import FILE_NAME, PROBABILITY, REASON, Predictions, write_probabilities
from ensemble.files.submission import write_rows, write_submission

FORMAT = 3  # 2: JPEGs decoded at the smallest scale that the pipelines need; 3: with numbers
ROWS = 1024  # of a part, which is what a kill can cost
IMAGES = "images"  # the array that holds the fingerprint
UNDECODABLE = "unseen.csv"

Predict = Callable[[Sequence[str]], Iterable[Predictions]]


def make_key(heads: Mapping[str, Sequence[str]], options: Mapping[str, object]) -> str:
    """Hash what decides the results beside the images: each task's checksums of heads, and options."""
    text = json.dumps([FORMAT, dict(heads), {name: str(value) for name, value in sorted(options.items())}])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def fingerprint(paths: Sequence[str | Path]) -> str:
    """Hash the paths, sizes and modification times of images as they are on the disk now."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        try:
            status = path.stat()
            entry = [str(path), status.st_size, status.st_mtime_ns]
        except OSError:
            entry = [str(path)]
        digest.update(json.dumps(entry).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def part_size(batch_size: int) -> int:
    """Rows of a part: `ROWS`, rounded up to whole batches."""
    return -(-ROWS // batch_size) * batch_size


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
    paths: Sequence[str]

    @property
    def folder(self) -> Path:
        return self.place / self.key

    def count_finished(self, together: int) -> int:
        """Count the rows, from the first on, that can be used again; remove all other parts.

        They end on a multiple of `together`, the rows whose computation depends on one another (a batch, or a window
        of batches): resumed results would differ in their last bits otherwise.
        """
        for other in self.place.glob("*"):
            if other.name != self.key and not other.name.startswith("."):
                shutil.rmtree(other)
        remove_unfinished(self.folder)
        rows = 0
        for file in self._files():
            start, stop = (int(number) for number in file.stem.split("-")[1:3])
            ends_well = stop % together == 0 or stop == len(self.paths)
            if start == rows and ends_well and self._is_unchanged(file, start, stop):
                rows = stop
            else:
                file.unlink()
        return rows

    def fill(self, predict: Predict, batch_size: int, adaptive: bool = False) -> None:
        """Predict the images that have no part yet, and write their parts; a signal ends it after saving.

        `predict` yields predictions of a batch at a time, or with `adaptive` of a window of `part_size`.
        """
        rows, total = part_size(batch_size), len(self.paths)
        start = self.count_finished(rows if adaptive else batch_size)
        if start:
            print(f"resuming after {start} of {total} images", flush=True)
        try:
            with tqdm(desc="combine", total=total, initial=start, disable=None, unit="image") as bar:
                for part in _group(predict(self.paths[start:]), rows, bar):
                    start = self.write(start, part)
        except StopSignal as stop:
            stop.saved = f"predictions of {start} of {total} images are saved; the same command resumes"
            raise

    def write(self, start: int, predictions: Predictions) -> int:
        """Write the predictions of the rows from `start` on; return the row after them."""
        stop = start + len(predictions)
        images = np.array(fingerprint(self.paths[start:stop]))
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **predictions.to_arrays(), **{IMAGES: images})
        content = buffer.getvalue()
        name = f"part-{start:09d}-{stop:09d}-{_checksum(content)}.npz"
        with write_atomically(self.folder / name) as temporary:
            temporary.write_bytes(content)
        return stop

    def __iter__(self) -> Iterator[Predictions]:
        """Yield each part's predictions, in order; one part is in memory at a time."""
        for file in self._files():
            with np.load(file, allow_pickle=False) as arrays:
                yield Predictions.from_arrays({name: arrays[name] for name in arrays if name != IMAGES})

    def remove(self) -> None:
        """Remove all parts, once the submission is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # it holds parts under another key, or was never made
            self.place.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.npz"))

    def _is_unchanged(self, file: Path, start: int, stop: int) -> bool:
        content = file.read_bytes()
        if _checksum(content) != file.stem.split("-")[3]:
            return False
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return str(arrays[IMAGES]) == fingerprint(self.paths[start:stop])


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _group(predictions: Iterable[Predictions], rows: int, bar: tqdm) -> Iterator[Predictions]:  # type: ignore[type-arg]
    """Concatenate predictions until they have `rows` images; a signal ends the last part early."""
    pending: list[Predictions] = []
    try:
        for each in predictions:
            pending.append(each)
            bar.update(len(each))
            if sum(map(len, pending)) >= rows:
                part, pending = pending, []
                yield Predictions.concat(part)
    except StopSignal:
        if pending:
            yield Predictions.concat(pending)
        raise
    if pending:
        yield Predictions.concat(pending)


def write_results(
    out: Path,
    ids: Sequence[str],
    classes: Mapping[str, Sequence[str]],
    parts: ResultParts,
    temperatures: Mapping[str, float],
    names: Path | None = None,
) -> int:
    """Write probabilities.npz, the submission `out`, the images that could not be decoded and `names` if asked for.

    Returns the number of images that could not be decoded; without any, the list of an earlier run is removed.
    """
    beside = out.parent / UNDECODABLE
    for path in (out.parent / FILE_NAME, out, beside):
        remove_unfinished(out.parent, path.stem)
    write_probabilities(out.parent / FILE_NAME, ids, classes, parts, temperatures)
    write_submission(out, ids, (code for part in parts for code in part.joint_codes().tolist()))
    errors = (error for part in parts for error in part.errors)
    bad = [(name, error) for name, error in zip(ids, errors, strict=True) if error]
    if bad:
        write_rows(beside, [ID, REASON], bad)
    else:
        beside.unlink(missing_ok=True)
    if names is not None:
        rows = ([name, *cells] for name, cells in zip(chain([ID], ids), name_rows(classes, parts), strict=True))
        write_rows(names, next(rows), rows)
    return len(bad)


def name_rows(classes: Mapping[str, Sequence[str]], parts: Iterable[Predictions]) -> Iterator[list[str]]:
    """Yield a heading and then, for each image, the most probable class of every task, its probability, and numbers.

    The cells of an image that could not be decoded are empty.
    """
    for first, part in enumerate(parts):
        columns = replace(part, classes=classes).columns()
        digits = [3 if name.endswith(f"_{PROBABILITY}") else 1 for name in columns]
        if not first:
            yield list(columns)
        for error, *cells in zip(part.errors, *columns.values(), strict=True):
            pairs = zip(cells, digits, strict=True)
            yield [""] * len(cells) if error else [c if isinstance(c, str) else f"{c:.{n}f}" for c, n in pairs]
