"""Find the faces of many images and keep their boxes in a CSV file."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data.annotations.table import LABELS_FILE, read_table
from data.boxes.detector import CenterFace
from data.images.crop import COLUMNS, Box
from data.images.decode import decode
from data.images.find import IMAGES, list_image_paths
from data.runtime.errors import InputError
from data.runtime.files import check_writable_names, read_csv, write_csv
from data.runtime.processes import parallel_map
from data.runtime.signals import StopSignal, defer_signals

CHUNK = 16
EVERY = 512  # images that a kill may cost, or this share of all where they are many: each write is of all
SHARE = 0.05
NO_FACE, SEVERAL = "no face: shown whole", " faces: the largest is taken"
THRESHOLD = "threshold"  # column: the least score that was searched for
Found = Mapping[str, Sequence[Box] | str]  # boxes by path, or why the image cannot be decoded


def list_images_of(sources: Sequence[Path]) -> list[str]:
    """List the absolute paths of images with labels, and of all that `combine.py` would predict; each once.

    Raises:
        InputError: as `data.annotations.table.read_table` and `data.images.find.list_image_paths` do, or a path
            is not UTF-8.
    """
    paths, labelled = [], []
    for source in sources:
        # Labels may name images without the extension of one. The challenge's folders have no such file: their
        # images are among all images below them.
        if source.is_file() or ((source / LABELS_FILE).is_file() and (source / IMAGES).is_dir()):
            labelled.append(source)
        if not source.is_file():
            paths += list_image_paths(source)
    if labelled:
        paths = read_table(labelled)["path"].tolist() + paths
    check_writable_names(", ".join(map(str, sources)), paths)
    return list(dict.fromkeys(paths))


def check_threshold(file: Path, threshold: float) -> str:
    """Return the threshold for the CSV's column, empty if the file has none, as those of other programs.

    Raises:
        InputError: the file was made with another threshold.
    """
    rows = read_csv(file).rows if file.is_file() else []
    stored = {values[THRESHOLD] for _, values in rows if THRESHOLD in values}
    if other := stored - {f"{threshold:g}"}:
        problem = f"{file}: found with --threshold {', '.join(sorted(other))}, expected {threshold:g} as now"
        raise InputError(f"{problem}; use the same threshold, or another --out")
    return "" if rows and not stored else f"{threshold:g}"


def find_all(
    detector: CenterFace, new: Sequence[str], out: Path, known: Found, threshold: str, processes: int | None
) -> dict[str, Sequence[Box] | str]:
    """Find the faces of the `new` images, write them with the `known` ones to `out`, and return all.

    However it ends, by a signal or an error, `out` has what was found until then; only a kill loses some.
    """
    found, written = dict(known), len(known)
    chunks = [new[start : start + CHUNK] for start in range(0, len(new), CHUNK)]
    parts = parallel_map(partial(find_faces, detector), chunks, processes)
    try:
        for part in tqdm(parts, "faces", len(chunks), disable=None):
            found |= part
            if len(found) - written >= max(EVERY, SHARE * len(found)):
                with defer_signals():
                    write_boxes(out, found, threshold)
                    written = len(found)
    except StopSignal as stop:
        count = f"{len(found) - len(known)} of {len(new)} images"
        stop.saved = f"{out} has what was found in {count}; the same command goes on"
        raise
    finally:
        if len(found) > written:
            write_boxes(out, found, threshold)
    return found


def find_faces(detector: CenterFace, paths: Sequence[str]) -> Found:
    """Find all faces of each image, the largest first."""
    found: dict[str, Sequence[Box] | str] = {}
    for path in paths:
        try:
            found[path] = round_boxes(detector(decode(Path(path))).tolist())
        except InputError as error:
            found[path] = str(error)
    return found


def round_boxes(boxes: Iterable[Sequence[float]]) -> list[Box]:
    """Round x0, y0, x1, y1 and score to the decimals of the CSV; drop boxes that become empty.

    >>> round_boxes([(1.04, 2.0, 7.96, 9.0, 0.98765), (1.01, 2.0, 1.04, 9.0, 0.9)])
    [(1.0, 2.0, 8.0, 9.0, 0.988)]
    """
    rounded = []
    for *corners, score in boxes:
        x0, y0, x1, y1 = (round(number, 1) for number in corners)
        if x0 < x1 and y0 < y1:
            rounded.append((x0, y0, x1, y1, round(score, 3)))
    return rounded


def write_boxes(file: Path, found: Found, threshold: str = "") -> None:
    """Write the CSV of `data.images.crop` atomically, with paths relative to its folder and any `threshold`."""
    folder, last = os.path.abspath(file.parent), [threshold] if threshold else []  # noqa: PTH100
    rows: list[Sequence[object]] = [[*COLUMNS, *([THRESHOLD] if threshold else [])]]
    for path, boxes in found.items():
        if not isinstance(boxes, str):
            name = os.path.relpath(path, folder)
            lines = [[name, *(f"{x:.1f}" for x in box[:4]), f"{box[4]:.3f}"] for box in round_boxes(boxes)]
            rows += [[*line, *last] for line in lines or [[name, "", "", "", "", ""]]]
    write_csv(file, rows)


def write_unclear(file: Path, found: Found) -> tuple[int, int, int]:
    """Write which images have no face, several, or cannot be decoded; return how many of each."""
    rows = [
        (path, boxes if isinstance(boxes, str) else f"{len(boxes)}{SEVERAL}" if boxes else NO_FACE)
        for path, boxes in found.items()
        if isinstance(boxes, str) or len(boxes) != 1
    ]
    write_csv(file, [["path", "what"], *rows])
    none, several = (sum(what.endswith(kind) for _, what in rows) for kind in (NO_FACE, SEVERAL))
    return none, several, len(rows) - none - several
