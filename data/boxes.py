"""Find the faces of photographs and keep their boxes in a CSV, for `--boxes` of the scripts.

python -m data.boxes --data path/to/photographs --out boxes.csv

Photographs whose boxes the CSV has already are not looked at again. Those without a face, with several, or that
cannot be decoded are listed beside it, in boxes.unclear.csv.
"""

import argparse
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data.crops import COLUMNS, Box, read_boxes
from data.detector import CenterFace, weights_path
from data.errors import InputError, debug_option, run_script
from data.files import written_whole
from data.images import decode
from data.manifest import LABELS_FILE, read_table
from data.pictures import pictures_below
from data.processes import shared_out

CHUNK = 16
NO_FACE, SEVERAL = "no face: shown whole", " faces: the largest is taken"
Found = dict[str, list[Box] | str]  # boxes, or what is wrong with the photograph


def find_faces(detector: CenterFace, paths: Sequence[str]) -> Found:
    """Boxes of all faces of each photograph, the largest first, or why it cannot be decoded."""
    found: Found = {}
    for path in paths:
        try:
            boxes = detector(decode(Path(path)))
        except InputError as error:
            found[path] = str(error)
        else:
            found[path] = [(x0, y0, x1, y1, score) for x0, y0, x1, y1, score in boxes.tolist()]
    return found


def photographs_of(sources: Sequence[Path]) -> list[str]:
    """Absolute paths of the photographs: those with labels, or all that `combine.py` would answer."""
    paths: list[str] = []
    labelled = []
    for source in sources:
        images = source / "images"
        if (source / "info.csv").is_file() and images.is_dir():
            below = images
        elif source.is_dir() and not any((source / name).exists() for name in (LABELS_FILE, "images", "train")):
            below = source
        else:
            labelled.append(source)
            continue
        paths += [os.path.abspath(below / name) for name in pictures_below(below)]  # noqa: PTH100
    paths += read_table(labelled)["path"].tolist() if labelled else []
    if not paths:
        raise InputError(f"{', '.join(map(str, sources))}: found no photograph, expected at least one")
    return paths


def write_boxes(file: Path, boxes: Mapping[str, Sequence[Box]]) -> None:
    """Write the CSV of `data.crops`, paths relative to its folder, whole or not at all."""
    folder = os.path.abspath(file.parent)  # noqa: PTH100
    with written_whole(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for path, found in boxes.items():
            name = os.path.relpath(path, folder)
            for *corners, score in found:
                writer.writerow([name, *(f"{value:.1f}" for value in corners), f"{score:.3f}"])
            if not found:
                writer.writerow([name, "", "", "", "", ""])


def write_unclear(file: Path, found: Mapping[str, Sequence[Box] | str]) -> tuple[int, int, int]:
    """Write which photographs have no face, several, or cannot be decoded; return how many of each."""
    rows = [[path, _what(boxes)] for path, boxes in found.items()]
    with written_whole(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows([["path", "what"], *(row for row in rows if row[1])])
    kinds = [what for _, what in rows if what]
    none, several = kinds.count(NO_FACE), sum(what.endswith(SEVERAL) for what in kinds)
    return none, several, len(kinds) - none - several


def _what(found: Sequence[Box] | str) -> str:
    """What is unclear about a photograph; empty for one with one face."""
    if isinstance(found, str):
        return found
    return NO_FACE if not found else f"{len(found)}{SEVERAL}" if len(found) > 1 else ""


def found_in_all(detector: CenterFace, paths: Sequence[str], processes: int | None) -> Iterator[Found]:
    """`find_faces` of chunks of the photographs, in order, shared among processes."""
    chunks = [list(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    yield from tqdm(
        shared_out(partial(find_faces, detector), chunks, processes), "faces", len(chunks), disable=None
    )


def main() -> None:
    """Read the command line and look for faces."""
    parser = argparse.ArgumentParser(prog="python -m data.boxes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="DIR", help="as the scripts' --data"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the CSV; added to if there")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score (default: %(default)s)")
    parser.add_argument("--processes", type=int, help="that look (default: one a core)")
    debug_option(parser)
    args = parser.parse_args()
    if not 0 < args.threshold < 1 or (args.processes or 1) < 1 or args.out.suffix != ".csv":
        raise InputError("expected --threshold within 0..1, --processes from 1 and --out FILE.csv")
    paths = photographs_of(args.data)
    known = read_boxes(args.out) if args.out.is_file() else {}
    new = [path for path in dict.fromkeys(paths) if path not in known]
    found: Found = dict(known)
    if new:
        for part in found_in_all(CenterFace(weights_path(), args.threshold), new, args.processes):
            found |= part
    write_boxes(args.out, {path: boxes for path, boxes in found.items() if not isinstance(boxes, str)})
    beside = args.out.with_suffix(".unclear.csv")
    none, several, bad = write_unclear(beside, {path: found[path] for path in dict.fromkeys(paths)})
    print(f"{args.out}: {len(paths)} photographs, {len(new)} of them looked at now")
    print(
        f"{none} without a face (shown whole), {several} with several (the largest is taken), "
        f"{bad} that cannot be decoded: {beside}"
    )


if __name__ == "__main__":
    run_script(main)
