"""Find the faces of images and keep their boxes in a CSV, for `--boxes` of the scripts.

python -m data.boxes --data path/to/images --out boxes.csv

Images whose boxes the CSV has already are not looked at again. It is written now and then, so that a run
that was stopped goes on with the same command. Images without a face, with several, or that cannot be
decoded are listed beside it, in boxes.unclear.csv.
"""

import argparse
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data.annotations.table import LABELS_FILE, read_table
from data.boxes.detector import CenterFace, weights_path
from data.images.crop import COLUMNS, Box, read_boxes
from data.images.decode import decode
from data.images.find import IMAGES, list_image_paths
from data.runtime.errors import InputError, add_debug_option, run_script
from data.runtime.files import check_writable_names, write_atomically
from data.runtime.locks import hold_lock
from data.runtime.processes import parallel_map
from data.runtime.signals import StopSignal, defer_signals

CHUNK = 16
EVERY = 512  # images that a kill may cost, or this share of all where they are many: each write is of all
SHARE = 0.05
NO_FACE, SEVERAL = "no face: shown whole", " faces: the largest is taken"
Found = dict[str, list[Box] | str]  # boxes, or what is wrong with the image


def find_faces(detector: CenterFace, paths: Sequence[str]) -> Found:
    """Boxes of all faces of each image, the largest first, or why it cannot be decoded."""
    found: Found = {}
    for path in paths:
        try:
            boxes = detector(decode(Path(path)))
        except InputError as error:
            found[path] = str(error)
        else:
            found[path] = [box for row in boxes.tolist() if (box := path_in_csv(row)) is not None]
    return found


def path_in_csv(numbers: Sequence[float]) -> Box | None:
    """x0, y0, x1, y1 and score to the decimals that the CSV has; None where nothing of the box is left.

    >>> path_in_csv((1.04, 2.0, 7.96, 9.0, 0.98765))
    (1.0, 2.0, 8.0, 9.0, 0.988)
    >>> path_in_csv((1.01, 2.0, 1.04, 9.0, 0.9))
    """
    x0, y0, x1, y1 = (round(number, 1) for number in numbers[:4])
    return (x0, y0, x1, y1, round(numbers[4], 3)) if x0 < x1 and y0 < y1 else None


def list_images_of(sources: Sequence[Path]) -> list[str]:
    """Absolute paths of the images: those with labels, and all that `combine.py` would answer; each once.

    Raises:
        InputError: as `data.annotations.table.read_table` and `data.images.find.list_images` do, or a path that is not
            UTF-8.
    """
    labelled = [each for each in sources if each.is_file() or _holds_labels(each)]
    paths: list[str] = read_table(labelled)["path"].tolist() if labelled else []
    for source in sources:
        paths += [] if source.is_file() else list_image_paths(source)
    check_writable_names(", ".join(map(str, sources)), paths)
    return list(dict.fromkeys(paths))


def _holds_labels(folder: Path) -> bool:
    """Whether a file of labels may name images here that nothing else tells of, whatever their extension.

    The challenge's own folders have no such file: their images are among all images below them.
    """
    return (folder / LABELS_FILE).is_file() and (folder / IMAGES).is_dir()


def write_boxes(file: Path, boxes: Mapping[str, Sequence[Box]]) -> None:
    """Write the CSV of `data.images.crop`, paths relative to its folder, whole or not at all."""
    folder = os.path.abspath(file.parent)  # noqa: PTH100
    with write_atomically(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for path, found in boxes.items():
            name = os.path.relpath(path, folder)
            kept = [box for box in map(path_in_csv, found) if box is not None]
            for *corners, score in kept:
                writer.writerow([name, *(f"{value:.1f}" for value in corners), f"{score:.3f}"])
            if not kept:
                writer.writerow([name, "", "", "", "", ""])


def write_unclear(file: Path, found: Mapping[str, Sequence[Box] | str]) -> tuple[int, int, int]:
    """Write which images have no face, several, or cannot be decoded; return how many of each."""
    rows = [[path, _what(boxes)] for path, boxes in found.items()]
    with write_atomically(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows([["path", "what"], *(row for row in rows if row[1])])
    kinds = [what for _, what in rows if what]
    none, several = kinds.count(NO_FACE), sum(what.endswith(SEVERAL) for what in kinds)
    return none, several, len(kinds) - none - several


def _what(found: Sequence[Box] | str) -> str:
    """What is unclear about an image; empty for one with one face."""
    if isinstance(found, str):
        return found
    return NO_FACE if not found else f"{len(found)}{SEVERAL}" if len(found) > 1 else ""


def detect_all(detector: CenterFace, paths: Sequence[str], processes: int | None) -> Iterator[Found]:
    """`find_faces` of chunks of the images, in order, shared among processes."""
    chunks = [list(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    yield from tqdm(
        parallel_map(partial(find_faces, detector), chunks, processes), "faces", len(chunks), disable=None
    )


def detect_one(
    detector: CenterFace, new: Sequence[str], out: Path, known: Found, processes: int | None
) -> Found:
    """What is `known` and what is found in the `new` images, kept in `out` all the while.

    However it ends, by a signal or a fault, `out` has what was found until then; only a kill costs some.
    """
    found, kept = dict(known), len(known)
    try:
        for part in detect_all(detector, new, processes):
            found |= part
            if len(found) - kept >= max(EVERY, SHARE * len(found)):
                with defer_signals():
                    write_boxes(out, _to_boxes(found))
                    kept = len(found)
    except BaseException as error:
        if len(found) > kept:
            write_boxes(out, _to_boxes(found))
        if isinstance(error, StopSignal):
            looked = f"{len(found) - len(known)} of {len(new)} images"
            error.saved = f"{out} has what was found in {looked}; the same command goes on"
        raise
    write_boxes(out, _to_boxes(found))
    return found


def _to_boxes(found: Found) -> dict[str, list[Box]]:
    return {path: boxes for path, boxes in found.items() if not isinstance(boxes, str)}


def main() -> None:
    """Read the command line and look for faces."""
    parser = argparse.ArgumentParser(prog="python -m data.boxes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="DIR", help="as the scripts' --data"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the CSV; added to if there")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score (default: %(default)s)")
    parser.add_argument("--processes", type=int, help="that look (default: one a core)")
    add_debug_option(parser)
    args = parser.parse_args()
    if not 0 < args.threshold < 1 or (args.processes or 1) < 1 or args.out.suffix != ".csv":
        raise InputError("expected --threshold within 0..1, --processes from 1 and --out FILE.csv")
    paths = list_images_of(args.data)
    beside = args.out.with_suffix(".unclear.csv")
    with hold_lock(args.out.with_name(f".{args.out.name}.lock"), str(args.out)):  # else each loses the other's
        found: Found = {**read_boxes(args.out)} if args.out.is_file() else {}
        new = [path for path in paths if path not in found]
        if new:
            detector = CenterFace(weights_path(), args.threshold)
            found = detect_one(detector, new, args.out, found, args.processes)
        none, several, bad = write_unclear(beside, {path: found[path] for path in paths})
    print(f"{args.out}: {len(paths)} images, {len(new)} of them looked at now")
    print(
        f"{none} without a face (shown whole), {several} with several (the largest is taken), "
        f"{bad} that cannot be decoded: {beside}"
    )


if __name__ == "__main__":
    run_script(main)
