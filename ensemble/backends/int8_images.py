"""Images that int8 is calibrated on, of training people, and those of validation people that it is compared on."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.table import read_table
from data.audit.validation import read_validation
from data.runtime.errors import InputError
from ensemble.backends.int8 import OPTION, Classes
from heads.load import TrainedHead

CALIBRATION_IMAGES, MIN_CALIBRATION_IMAGES = 100, 50
SCORED_IMAGES = 1000  # of each head, or a few more: all images of some people

Arrays = Mapping[str, npt.NDArray[Any]]


def select_images(
    heads: Sequence[TrainedHead], training: Sequence[Path]
) -> tuple[list[Path], list[tuple[list[Path], Classes]]]:
    """Select the images to calibrate on, and for each head those to compare on with their classes, always the same.

    Raises:
        InputError: see `select_calibration_images` and `find_validation_images`.
    """
    table, files = read_table(training), [head.run.validation for head in heads]
    every = [read_validation(file) for file in files]
    everyone = {key: np.concatenate([held_out[key] for held_out in every]) for key in ("person", "path")}
    validation = []
    for file, held_out in zip(files, every, strict=True):
        rows = select_people(held_out["person"].astype(str).tolist(), SCORED_IMAGES)
        chosen = {key: held_out[key][rows] for key in ("person", "path", "truth")}
        validation.append((find_validation_images(table, chosen, file), chosen["truth"]))
    return select_calibration_images(table, everyone), validation


def select_people(people: Sequence[str], least: int) -> npt.NDArray[np.bool_]:
    """Select rows [N] of some of the people, always the same ones, until there are `least`; all if there are fewer."""
    digests = np.array([sha256(person.encode("utf-8", "surrogateescape")).hexdigest() for person in people])
    chosen: npt.NDArray[np.bool_] = digests <= np.sort(digests)[min(least, len(digests)) - 1]
    return chosen


def select_calibration_images(table: pd.DataFrame, held_out: Arrays) -> list[Path]:
    """Select up to `CALIBRATION_IMAGES` images of people outside all validation sets, always the same ones.

    They are from the sources that contain validation people, if any does: heads were trained on the others there.
    People are compared by name only, so that a copy of the data in another folder leaks no one.

    Raises:
        InputError: there are fewer than `MIN_CALIBRATION_IMAGES`.
    """
    held = table["person"].isin(held_out["person"].astype(str)) | table["path"].isin(held_out["path"].astype(str))
    own = table["source"].isin(table["source"][held]) if held.any() else True
    paths = sorted(table["path"][~held & own])
    if len(paths) < MIN_CALIBRATION_IMAGES:
        raise InputError(
            f"{OPTION}: found {len(paths)} images of people whom no head was validated on, expected at least "
            f"{MIN_CALIBRATION_IMAGES} to calibrate on; give all training data with --calibration, or use "
            "--precision fp32, since the folds of a head leave no one"
        )
    drawn = np.random.default_rng(0).choice(len(paths), min(CALIBRATION_IMAGES, len(paths)), replace=False)
    return [Path(paths[place]) for place in sorted(drawn)]


def find_validation_images(table: pd.DataFrame, held_out: Arrays, validation: Path) -> list[Path]:
    """Find the images of `validation`, in its order: where they were in training, else in the training data.

    Raises:
        InputError: some are in neither place.
    """
    by_name = {(person, Path(path).name): path for person, path in zip(table["person"], table["path"], strict=True)}
    paths = []
    for person, name in zip(held_out["person"].astype(str), held_out["path"].astype(str), strict=True):
        path = Path(name)
        paths.append(path if path.is_file() else Path(by_name.get((person, path.name), path)))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{validation}: {len(missing)} of its {len(paths)} images, on which int8 is checked, are not there, "
            f"such as {missing[0]}; give all training data with --calibration, or use --precision fp32"
        )
    return paths
