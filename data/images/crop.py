"""Boxes of faces out of a CSV, and images cropped to them with a margin.

The CSV has `path` (absolute, or relative to its own folder), `x0`, `y0`, `x1`, `y1` in pixels of the upright
image and `score`: a row for each face, and one with empty values for an image without any. Whoever has
boxes from elsewhere supplies them so.

The rule, told and listed by `python -m data.boxes`: of several faces the largest is taken; an image without
a face, or that the CSV does not name, is shown whole.
"""

import argparse
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.annotations.labels_csv import read_csv
from data.images.decode import decode
from data.runtime.errors import InputError, raise_all

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float, float]
COLUMNS = ("path", "x0", "y0", "x1", "y1", "score")
# Shares of the box's sides that stay around it: as the challenge's images frame CenterFace's boxes.
ABOVE, BELOW, BESIDE = 0.5, 0.25, 0.35


def read_boxes(file: Path) -> dict[str, list[Box]]:
    """Boxes (x0, y0, x1, y1, score) of each image by its absolute path, the largest first.

    Raises:
        InputError: no such file, other columns, or rows that are no boxes; all are told.
    """
    columns, lines, problems = read_csv(file)
    if not problems and not set(COLUMNS[:5]) <= set(columns):
        problems = [f"{file}: columns {', '.join(columns)}, expected {', '.join(COLUMNS)}"]
    raise_all(f"{file}: no boxes can be read", problems)
    boxes: dict[str, list[Box]] = {}
    for line, values in lines:
        found = boxes.setdefault(_absolute(file, values["path"]), [])
        numbers = [values.get(name, "") for name in COLUMNS[1:]]
        if not any(numbers[:4]):
            continue
        box = _box(numbers)
        if box is None:
            problems.append(f"row {line}: {','.join(numbers)}: expected 0 <= x0 < x1, 0 <= y0 < y1 in pixels")
        else:
            found.append(box)
    raise_all(f"{file}: bad rows", problems)
    return {path: sorted(found, key=_area, reverse=True) for path, found in boxes.items()}


def crop(pixels: Pixels, box: Box, margin: float = 1.0) -> Pixels:
    """The box of an image [H, W, 3] with the margin around it, cut off at the image's edges.

    A box that lies outside leaves the image whole.

    Args:
        pixels: the upright image.
        box: in its pixels.
        margin: times the usual one; 0 leaves the box alone.
    """
    height, width = pixels.shape[:2]
    x0, y0, x1, y1, _ = box
    beside, high = margin * BESIDE * (x1 - x0), y1 - y0
    left, right = max(math.floor(x0 - beside), 0), min(math.ceil(x1 + beside), width)
    top = max(math.floor(y0 - margin * ABOVE * high), 0)
    bottom = min(math.ceil(y1 + margin * BELOW * high), height)
    return pixels[top:bottom, left:right] if left < right and top < bottom else pixels


@dataclass(frozen=True)
class CroppedReader:
    """Reads images cropped to their largest face; loader workers can take it along.

    Attributes:
        boxes: by absolute path, the largest first.
        margin: see `crop`.
        digest: of the boxes, whose they are, and the margin: two readers with one digest crop alike.
    """

    boxes: Mapping[str, Sequence[Box]]
    margin: float
    digest: str

    def __call__(self, path: Path) -> Pixels:
        pixels, found = decode(path), self.boxes.get(os.path.abspath(path))  # noqa: PTH100 (links stay)
        return np.ascontiguousarray(crop(pixels, found[0], self.margin)) if found else pixels

    def told(self, paths: Sequence[str | Path]) -> str:
        """How many of the images are cropped, and why the others are not."""
        found = [self.boxes.get(os.path.abspath(path)) for path in paths]  # noqa: PTH100
        several = sum(len(boxes) > 1 for boxes in found if boxes)
        return (
            f"boxes: {sum(map(bool, found))} of {len(found)} images cropped ({several} with several: "
            f"the largest); whole: {found.count([])} without a face, {found.count(None)} not listed"
        )


def make_cropped_reader(file: Path, margin: float = 1.0) -> CroppedReader:
    """The reader for a CSV of boxes; errors are those of `read_boxes`."""
    boxes = read_boxes(file)
    text = json.dumps([sorted(boxes.items()), margin])
    return CroppedReader(boxes, margin, hashlib.sha256(text.encode()).hexdigest()[:16])


def add_box_options(parser: argparse.ArgumentParser) -> None:
    """Give a script's parser --boxes and --box-margin."""
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="crop each image to its face: the CSV of python -m data.boxes, or your own",
    )
    parser.add_argument(
        "--box-margin",
        type=float,
        default=1.0,
        metavar="TIMES",
        help="around the face, times the usual one; for answering as in training (default: %(default)s)",
    )


def make_reader(boxes: Path | None, margin: float) -> Callable[[Path], Pixels]:
    """What `add_box_options` ask for: a reader that crops, or plain `decode`."""
    if not 0 <= margin <= 10:
        raise InputError(f"--box-margin {margin:g}: expected 0 to 10")
    return decode if boxes is None else make_cropped_reader(boxes, margin)


def _absolute(file: Path, path: str) -> str:
    return os.path.abspath(file.parent / path)  # noqa: PTH100 (a linked folder keeps its name)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _box(numbers: Sequence[str]) -> Box | None:
    """The numbers of a row as a box, or None; a missing score is 1."""
    try:
        x0, y0, x1, y1, score = (float(number or 1) for number in numbers)
    except ValueError:
        return None
    finite = all(map(math.isfinite, (x0, y0, x1, y1, score))) and all(numbers[:4])
    return (x0, y0, x1, y1, score) if finite and 0 <= x0 < x1 and 0 <= y0 < y1 else None
