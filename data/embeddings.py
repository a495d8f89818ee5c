"""Compute embeddings of faces by dlib's face recogniser, from which a head can learn (`teacher.file`).

python -m data.embeddings --data path/to/train --data path/to/portraits --where mask=normal --out embeddings.npz

Writes an .npz file of `path` [N], absolute, and `embeddings` [N, 128]. A face is found and turned upright by dlib's own
detector and landmarks, or taken from where it is in an aligned portrait. `--where` leaves out images whose label in
that column is another one, such as masked faces.

The recogniser (King 2017, blog.dlib.net) is a ResNet trained to tell three million photographs' people apart.
"""

import argparse
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data.runtime.errors import (
    InputError,
    add_bad_image_option,
    add_debug_option,
    run_script,
    whole_number_from,
)

if TYPE_CHECKING:  # functions import it late, for --help
    import pandas as pd

CHUNK = 16
SIZE = 128  # numbers of an embedding
FACE_SIZE, MARGIN = 150, 0.25  # pixels of the recogniser's images, and the space around the face, as it was trained
INSTALL = "pip install --no-deps -r requirements-embeddings.txt"


@cache
def load_networks() -> tuple[Any, Any, Any, Any]:
    """Load dlib, its detector of faces, its landmarks and its recogniser, once in each process.

    Raises:
        InputError: they are not installed.
    """
    spec = find_spec("face_recognition_models")
    try:
        import dlib
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise InputError(f"dlib and its networks are not installed: {INSTALL}")
    folder = Path(spec.origin).parent / "models"
    landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
    recogniser = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))
    return dlib, dlib.get_frontal_face_detector(), landmarks, recogniser


def embed(paths: Sequence[str]) -> tuple[npt.NDArray[np.float32], int]:
    """Compute the embeddings of images [N, 128]; also return in how many of them the detector found a face."""
    from data.images.decode import decode
    from data.transforms.face_geometry import face_region

    dlib, detector, landmarks, recogniser = load_networks()
    faces, count = [], 0
    for path in paths:
        pixels = decode(Path(path))
        height, width = pixels.shape[:2]
        rows, columns = face_region(height, width, margin=0.5)
        box = dlib.rectangle(columns.start, rows.start, columns.stop, rows.stop)
        if found := detector(pixels, 1):
            box, count = max(found, key=lambda each: each.area()), count + 1
        faces.append(dlib.get_face_chip(pixels, landmarks(pixels, box), FACE_SIZE, MARGIN))
    return np.array(recogniser.compute_face_descriptor(faces), dtype=np.float32).reshape(-1, SIZE), count


def select_rows(table: "pd.DataFrame", where: str | None) -> "pd.DataFrame":
    """Leave out the rows whose label in the column of `where`, COLUMN=VALUE, is another one; missing labels stay."""
    if where is None:
        return table
    column, _, value = where.partition("=")
    if column not in table or not (table[column] == value).any():
        raise InputError(f"--where {where}: found no image with this label, expected COLUMN=VALUE of the data")
    return table[table[column].isna() | (table[column] == value)]


def main() -> None:
    """Parse the command line, compute the embeddings and write them."""
    parser = argparse.ArgumentParser(prog="python -m data.embeddings", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="DIR", help="as the scripts'")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .npz file")
    parser.add_argument("--where", metavar="COLUMN=VALUE", help="without images of another label in this column")
    parser.add_argument("--processes", type=whole_number_from(1), help="default: one a core")
    add_bad_image_option(parser)
    add_debug_option(parser)
    args = parser.parse_args()
    if args.out.suffix != ".npz":
        raise InputError(f"--out {args.out}: expected FILE.npz")

    # Imported here so that --help is quick.
    from tqdm import tqdm

    from data.annotations.table import read_table
    from data.images.decode import select_decodable
    from data.runtime.arrays import write_arrays
    from data.runtime.processes import parallel_map

    load_networks()
    skip = args.on_bad_image == "skip"
    rows = select_rows(read_table(args.data, lenient=skip), args.where)
    paths = select_decodable(rows["path"].tolist(), skip, args.processes)
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    parts = list(tqdm(parallel_map(embed, chunks, args.processes), "faces", len(chunks), disable=None))
    write_arrays(args.out, {"path": paths, "embeddings": np.concatenate([values for values, _ in parts])})
    found = sum(count for _, count in parts)
    print(f"{args.out}: embeddings of {len(paths)} images; the detector found a face in {found}")


if __name__ == "__main__":
    run_script(main)
