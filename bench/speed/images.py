"""Validation images of trained heads, whose people they were not trained on, and listings of them for combine.py."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, rmtree

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.validation import Arrays, read_predictions, select_shared
from data.images.find import ID, IMAGES, LISTING
from data.runtime.errors import raise_all
from ensemble.joint import encode
from heads.run.folder import run_folder


@dataclass(frozen=True)
class Listing:
    """A folder of images to answer, its distinct images in order, and how many it lists: some repeat if too few."""

    folder: Path
    paths: Sequence[str]
    count: int


def read_heads(runs: Path, tasks: Sequence[str]) -> dict[str, Arrays]:
    """Read what each head predicted for its validation images; InputError names images that are gone."""
    heads = {task: read_predictions(run_folder(runs, task)) for task in tasks}
    gone = sorted({path for head in heads.values() for path in head["path"].tolist() if not Path(path).is_file()})
    raise_all(f"{runs}: validation images that are not where they were in training", gone)
    return heads


def shared_images(heads: dict[str, Arrays], radices: Sequence[int]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Images that all heads were validated on, and their joint codes."""
    shared = select_shared(list(heads.values()))
    return shared[0]["path"].tolist(), np.asarray(encode([head["truth"] for head in shared], radices))


def write_listing(paths: Sequence[str], count: int, folder: Path) -> Listing:
    """Write info.csv and images/ with `count` of the images, evenly spread, or repeated where there are fewer."""
    rmtree(folder, ignore_errors=True)
    (folder / IMAGES).mkdir(parents=True)
    places = np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)
    chosen = [paths[place] for place in places]
    names = [f"{number:06d}{Path(chosen[number % len(chosen)]).suffix}" for number in range(count)]
    for number, name in enumerate(names):
        if number < len(chosen):
            copyfile(chosen[number], folder / IMAGES / name)
        else:
            os.link(folder / IMAGES / names[number % len(chosen)], folder / IMAGES / name)
    pd.DataFrame({ID: names}).to_csv(folder / LISTING, index=False)
    return Listing(folder, chosen, count)
