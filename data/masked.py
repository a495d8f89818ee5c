"""Images of bare faces to images with masks, worn and worn incorrectly, and their labels.

python -m data.masked --data path/to/portraits --out path/to/masked

OUT then is a data folder for `--data`: the bare images as they are, and of each a few with a drawn mask.
It appears only when complete.
"""

import argparse
import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from data.annotations.corrections import image_names
from data.annotations.table import LABELS_FILE, OWN_COLUMNS, read_table
from data.images.decode import decode
from data.images.validate import find_undecodable
from data.runtime.errors import InputError, add_debug_option, raise_all, run_script
from data.runtime.files import check_writable_names, write_folder_atomically, write_text
from data.runtime.processes import parallel_map
from data.transforms.face_geometry import aligned_face
from data.transforms.mask_overlay import WAYS, WORN, draw_mask

LABEL = "mask"
CLASSES = ("wear", "incorrect", "normal")
JPEG_QUALITY = 92
CHUNK = 16


@dataclass(frozen=True)
class MaskPlan:
    """How many masks are drawn on each face, what share of them is worn incorrectly, and the seed."""

    per_face: int
    wrong: float
    seed: int


def draw_masks(portrait: tuple[str, str], plan: MaskPlan, out: Path) -> list[tuple[str, str]]:
    """Write one face bare and masked into `out`; return (file name, class) of each.

    `portrait` is the face's path and its name. What is written is called by the name, and chance depends on the
    seed and the name alone, so that neither order nor number of processes nor the folder's place matters.
    """
    path, called = portrait
    digest = hashlib.sha256(called.encode("utf-8", "surrogateescape")).digest()
    rng = np.random.default_rng([plan.seed, int.from_bytes(digest[:8], "big")])
    pixels = decode(Path(path))
    stem = digest.hex()[:20]
    drawn = [(f"{stem}_bare.jpg", CLASSES[2], pixels)]
    for number in range(plan.per_face):
        wrong = rng.random() < plan.wrong
        way = str(rng.choice([way for way in WAYS if (way != WORN) == wrong]))
        masked = draw_mask(pixels, aligned_face(*pixels.shape[:2]), way, rng)
        drawn.append((f"{stem}_{number}_{way}.jpg", CLASSES[int(wrong)], masked))
    for name, _, image in drawn:
        Image.fromarray(image).save(out / name, "JPEG", quality=JPEG_QUALITY)
    return [(name, label) for name, label, _ in drawn]


def bare_faces(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without a mask: all, where nothing is said of masks, else those of class normal."""
    rows = table if LABEL not in table else table[table[LABEL].isna() | (table[LABEL] == CLASSES[2])]
    if not len(rows):
        raise InputError(f"no image of a bare face, expected some with {LABEL}={CLASSES[2]!r} or without it")
    return rows.reset_index(drop=True)


def write_masked(table: pd.DataFrame, out: Path, plan: MaskPlan, processes: int | None) -> int:
    """Write `out`/images and `out`/labels.csv from bare faces; returns how many images there are.

    The labels keep the person and every other label of the face that they were drawn on. `out` appears only
    when complete.

    Args:
        table: of bare faces, as `data.annotations.table.read_table` has it.
        out: a new or an empty folder.
        plan: what is drawn. Chance goes by the name of a face's file alone, unless another in the table has it
            too: then by the folders that tell them apart as well.
        processes: that draw; None for one a core.

    Raises:
        InputError: `out` holds anything before, or images cannot be decoded; all of them are told.
    """
    with write_folder_atomically(out) as whole:
        paths = table["path"].tolist()
        bad = find_undecodable(paths, processes)
        raise_all("some images cannot be decoded; replace or remove them:", bad.values())
        images = whole / "images"
        images.mkdir()
        # Told apart as one person's images are: in the challenge's folders everybody has a normal.jpg.
        names = image_names([""] * len(table), paths)
        draw = partial(draw_masks, plan=plan, out=images)
        found = parallel_map(draw, zip(paths, names, strict=True), processes, chunk=CHUNK)
        made = list(tqdm(found, total=len(paths), disable=None, unit="face"))
        write_text(whole / LABELS_FILE, _labels(table, made))
    return sum(len(each) for each in made)


def _labels(table: pd.DataFrame, made: Sequence[Sequence[tuple[str, str]]]) -> str:
    """The labels file of what was `made` of each row."""
    kept = [str(name) for name in table if name not in (*OWN_COLUMNS, LABEL)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "person", LABEL, *kept])
    writer.writerows(_lines(table, made, kept))
    return text.getvalue()


def _lines(
    table: pd.DataFrame, made: Sequence[Sequence[tuple[str, str]]], kept: Sequence[str]
) -> Iterator[list[str]]:
    for (_, row), images in zip(table.iterrows(), made, strict=True):
        others = [
            "" if pd.isna(row[name]) else f"{row[name]:g}" if name == "age" else row[name] for name in kept
        ]
        for name, label in images:
            yield [name, row["person"], label, *others]


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(prog="python -m data.masked", description="Draw masks on bare faces.")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="DIR", help="as train_task.py's"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="a new or an empty folder")
    parser.add_argument("--per-face", type=int, default=2, help="masks drawn on each face (default 2)")
    parser.add_argument("--wrong", type=float, default=0.5, help="share worn incorrectly (default 0.5)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other masks (default 0)")
    parser.add_argument("--processes", type=int, help="processes that draw (default: one a core)")
    add_debug_option(parser)
    given = parser.parse_args()
    if given.per_face < 1 or not 0 <= given.wrong <= 1 or given.seed < 0 or (given.processes or 1) < 1:
        raise InputError("--per-face and --processes start at 1, --seed at 0, --wrong lies in 0..1")
    plan = MaskPlan(given.per_face, given.wrong, given.seed)
    table = read_table(given.data)
    check_writable_names(", ".join(map(str, given.data)), table["path"].tolist())
    count = write_masked(bare_faces(table), given.out, plan, given.processes)
    print(f"{given.out}: {count} images, labels in {given.out / LABELS_FILE}")


if __name__ == "__main__":
    run_script(main)
