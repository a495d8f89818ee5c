"""Draw masks, worn correctly and incorrectly, on images of bare faces.

python -m data.masked --data path/to/portraits --out path/to/masked

OUT is then a data folder for `--data`: the bare images as they are, and of each some with a mask drawn on it.
It appears only when complete.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from data.images.decode import decode, select_decodable
from data.runtime.errors import InputError, add_bad_image_option, add_debug_option, run_script, whole_number_from
from data.runtime.files import check_writable_names, write_folder_atomically, write_text
from data.runtime.processes import parallel_map
from data.transforms.face_geometry import aligned_face
from data.transforms.mask_overlay import choose_way, draw_mask

# Imported where they are used, so that --help is quick: pandas, what needs it, and tqdm.
if TYPE_CHECKING:
    import pandas as pd

LABEL = "mask"
CLASSES = ("wear", "incorrect", "normal")
JPEG_QUALITY = 92
CHUNK = 16


def bare_faces(table: pd.DataFrame) -> pd.DataFrame:
    """Choose the rows of class normal and those without a label of the mask."""
    rows = table if LABEL not in table else table[table[LABEL].isna() | (table[LABEL] == CLASSES[2])]
    if not len(rows):
        raise InputError(f"no image of a bare face, expected some with {LABEL}={CLASSES[2]!r} or without it")
    return rows.reset_index(drop=True)


def write_masked(table: pd.DataFrame, out: Path, per_face: int, wrong: float, seed: int, processes: int | None) -> int:
    """Write `out`/images and `out`/labels.csv from a table of bare faces; return the number of images.

    The labels have the person and every other label of the face. A share of `wrong` masks is worn incorrectly.
    Only `seed` and a face's file name decide what is drawn; of files with the same name the folders that
    distinguish them count too. `out` appears only when complete.

    Raises:
        InputError: `out` is not empty, or an image cannot be decoded.
    """
    from tqdm import tqdm

    from data.annotations.corrections import image_names
    from data.annotations.table import LABELS_FILE

    with write_folder_atomically(out) as folder:
        paths = table["path"].tolist()
        images = folder / "images"
        images.mkdir()
        # As if all were one person's images: in the challenge's folders everybody has a normal.jpg.
        names = image_names([""] * len(table), paths)
        draw = partial(_draw_masks, per_face=per_face, wrong=wrong, seed=seed, out=images)
        drawn = parallel_map(draw, zip(paths, names, strict=True), processes, chunk=CHUNK)
        files = list(tqdm(drawn, total=len(paths), disable=None, unit="face"))
        labels = label_masked(table, files)
        write_text(folder / LABELS_FILE, labels.to_csv(index=False, float_format="%g", lineterminator="\n"))
    return len(labels)


def label_masked(table: pd.DataFrame, files: Sequence[Sequence[tuple[str, str]]]) -> pd.DataFrame:
    """Make the labels of derived images: their file and class, given for each row, and what the row tells of it.

    The person stays the original's; `derived_from` (its path in its source) and `original_source` (the source's name)
    name the first original of images that were derived again.
    """
    import pandas as pd

    from data.annotations.table import DERIVED_FROM, ORIGINAL_SOURCE, OWN_COLUMNS, source_folder

    originals = [source_folder(Path(source)) for source in table["source"]]
    own = pd.DataFrame(
        {
            "person": table["person"],
            DERIVED_FROM: [os.path.relpath(path, at) for path, at in zip(table["path"], originals, strict=True)],
            ORIGINAL_SOURCE: [Path(source).name for source in table["source"]],
        }
    )
    others = table.drop(columns=[*OWN_COLUMNS, LABEL], errors="ignore")
    facts = others.combine_first(own).loc[table.index.repeat([len(each) for each in files])].reset_index(drop=True)
    labels = pd.DataFrame([row for rows in files for row in rows], columns=["path", LABEL])
    names = [*own.columns, *others.columns.difference(own.columns, sort=False)]
    return labels.join(facts[names])


def _draw_masks(face: tuple[str, str], per_face: int, wrong: float, seed: int, out: Path) -> Sequence[tuple[str, str]]:
    """Write a face (path and name), bare and with masks, into `out`; return each file's name and class."""
    path, name = face
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    pixels = decode(Path(path))
    stem = digest.hex()[:20]
    images = {f"{stem}_bare.jpg": (CLASSES[2], pixels)}
    for number in range(per_face):
        incorrect = rng.random() < wrong
        way = choose_way(incorrect, rng)
        masked = draw_mask(pixels, aligned_face(*pixels.shape[:2]), way, rng)
        images[f"{stem}_{number}_{way}.jpg"] = (CLASSES[int(incorrect)], masked)
    for file, (_, image) in images.items():
        Image.fromarray(image).save(out / file, "JPEG", quality=JPEG_QUALITY)
    return [(file, label) for file, (label, _) in images.items()]


def main() -> None:
    """Parse the command line, draw the masks and write the data folder."""
    parser = argparse.ArgumentParser(prog="python -m data.masked", description="Draw masks on bare faces.")
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="DIR", help="as train_task.py's")
    count = whole_number_from(1)
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="a new or an empty folder")
    parser.add_argument("--per-face", type=count, default=2, help="masks drawn on each face (default 2)")
    parser.add_argument("--wrong", type=float, default=0.5, help="share worn incorrectly (default 0.5)")
    parser.add_argument("--seed", type=whole_number_from(0), default=0, help="another seed, other masks (default 0)")
    parser.add_argument("--processes", type=count, help="processes that draw (default: one a core)")
    add_bad_image_option(parser)
    add_debug_option(parser)
    args = parser.parse_args()
    if not 0 <= args.wrong <= 1:
        raise InputError(f"--wrong {args.wrong}: expected a share, 0 to 1")
    from data.annotations.table import LABELS_FILE, read_table

    skip = args.on_bad_image == "skip"
    table = read_table(args.data, lenient=skip)
    check_writable_names(", ".join(map(str, args.data)), table["path"].tolist())
    faces = bare_faces(table)
    faces = faces[faces["path"].isin(select_decodable(faces["path"].tolist(), skip, args.processes))]
    images = write_masked(faces.reset_index(drop=True), args.out, args.per_face, args.wrong, args.seed, args.processes)
    print(f"{args.out}: {images} images, labels in {args.out / LABELS_FILE}")


if __name__ == "__main__":
    run_script(main)
