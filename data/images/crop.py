"""Face boxes from a CSV file, and images cropped to them with a margin.

The file has `path` (absolute, or relative to its own folder), `x0`, `y0`, `x1`, `y1` in pixels of the upright image,
and optionally `score`: a row per face, and one with empty values for an image without a face. `python -m data.boxes`
writes such a file. Of several faces the largest is used; an image without a face, or that is not listed, stays whole.
"""

import argparse
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.images.decode import Pixels, Read, decode
from data.runtime.errors import InputError, raise_all
from data.runtime.files import read_csv

Box = tuple[float, float, float, float, float]
COLUMNS = ("path", "x0", "y0", "x1", "y1", "score")
# The margin as shares of the box's sides, as the challenge's images frame CenterFace's boxes.
ABOVE, BELOW, BESIDE = 0.5, 0.25, 0.35


def read_boxes(file: Path) -> dict[str, list[Box]]:
    """Read the boxes (x0, y0, x1, y1, score) of each image by its absolute path, the largest first.

    Raises:
        InputError: no such file, other columns, or all rows that are no boxes.
    """
    _, lines, problems = read_csv(file, COLUMNS[:5], COLUMNS[5:])  # paths unchanged: names may end in spaces
    raise_all(f"{file}: no boxes can be read", problems)
    boxes: dict[str, list[Box]] = {}
    for line, values in lines:
        path = os.path.abspath(file.parent / values["path"])  # noqa: PTH100 (a linked folder keeps its name)
        found = boxes.setdefault(path, [])
        numbers = [values.get(name, "").strip() for name in COLUMNS[1:]]
        if not any(numbers[:4]):
            continue
        box = _parse_box(numbers)
        if box is None:
            problems.append(f"row {line}: {','.join(numbers)}: expected 0 <= x0 < x1, 0 <= y0 < y1 in pixels")
        else:
            found.append(box)
    raise_all(f"{file}: bad rows", problems)
    return {
        path: sorted(found, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), reverse=True)
        for path, found in boxes.items()
    }


def crop(pixels: Pixels, box: Box, margin: float = 1.0) -> Pixels:
    """Crop an upright image [H, W, 3] to a box in its pixels; a box outside leaves it whole.

    The margin is so many times the usual one; 0 crops to the box.
    """
    height, width = pixels.shape[:2]
    x0, y0, x1, y1, _ = box
    beside, high = margin * BESIDE * (x1 - x0), y1 - y0
    left, right = max(math.floor(x0 - beside), 0), min(math.ceil(x1 + beside), width)
    top = max(math.floor(y0 - margin * ABOVE * high), 0)
    bottom = min(math.ceil(y1 + margin * BELOW * high), height)
    return pixels[top:bottom, left:right] if left < right and top < bottom else pixels


class CroppedReader:
    """Reader of images cropped to their largest face, by a CSV file of boxes; equal `digest`s crop alike."""

    def __init__(self, file: Path, margin: float = 1.0) -> None:
        self.boxes, self.margin = read_boxes(file), margin
        text = json.dumps([sorted(self.boxes.items()), margin])
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __call__(self, path: Path) -> Pixels:
        pixels, found = decode(path), self.boxes.get(os.path.abspath(path))  # noqa: PTH100 (links stay)
        return np.ascontiguousarray(crop(pixels, found[0], self.margin)) if found else pixels

    def summary(self, paths: Sequence[str | Path]) -> str:
        """Count the images that are cropped, and those that are not by reason."""
        found = [self.boxes.get(os.path.abspath(path)) for path in paths]  # noqa: PTH100
        several = sum(len(boxes) > 1 for boxes in found if boxes)
        return (
            f"boxes: {sum(map(bool, found))} of {len(found)} images cropped ({several} with several: "
            f"the largest); whole: {found.count([])} without a face, {found.count(None)} not listed"
        )


def add_box_options(parser: argparse.ArgumentParser) -> None:
    """Add --boxes and --box-margin."""
    boxes = "crop each image to its face: the CSV of python -m data.boxes, or your own"
    parser.add_argument("--boxes", type=Path, metavar="FILE", help=boxes)
    margin = "around the face, times the usual one; the same in training and prediction (default: %(default)s)"
    parser.add_argument("--box-margin", type=float, default=1.0, metavar="TIMES", help=margin)


def make_reader(boxes: Path | None, margin: float) -> Read:
    """Make the reader that `add_box_options` ask for: one that crops, or plain `decode`."""
    if not 0 <= margin <= 10:
        raise InputError(f"--box-margin {margin:g}: expected 0 to 10")
    return decode if boxes is None else CroppedReader(boxes, margin)


def _parse_box(numbers: Sequence[str]) -> Box | None:
    """Parse the numbers of a row, or return None; a missing score is 1."""
    try:
        x0, y0, x1, y1, score = (float(number or 1) for number in numbers)
    except ValueError:
        return None
    finite = all(map(math.isfinite, (x0, y0, x1, y1, score))) and all(numbers[:4])
    return (x0, y0, x1, y1, score) if finite and 0 <= x0 < x1 and 0 <= y0 < y1 else None
