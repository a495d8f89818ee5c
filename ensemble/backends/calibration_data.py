"""Images that a head was trained on, and those of the people whom it was judged on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.utils.data import DataLoader

from data.annotations.table import person_name
from data.dataset import ImageDataset, Read, SequentialIndices
from data.runtime.errors import InputError
from data.runtime.signals import init_worker
from data.transforms.pipeline import Pipeline
from heads.build import TrainedHead

CALIBRATED_ON, LEAST = 300, 50  # images
BATCH = 16

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class CalibrationData:
    """The training data.

    Attributes:
        table: of `data.annotations.table.read_table`.
        named: what messages call it.
        read: gives an image's pixels.
        workers: decoding processes.
    """

    table: pd.DataFrame
    named: str
    read: Read
    workers: int


def select_calibration_images(sources: CalibrationData, held_out: Arrays) -> list[Path]:
    """Up to `CALIBRATED_ON` images of people whom a head does not validate on, always the same ones.

    They are of the sources that hold its validation people, where any does: a head was trained on the others of
    these. People are told by their names alone, so that a copy of the data under another name lets none in.

    Raises:
        InputError: fewer than `LEAST` are there.
    """
    table = sources.table
    people = {person_name(str(person)) for person in held_out["person"]}
    held = table["person"].map(person_name).isin(people) | table["path"].isin(held_out["path"].astype(str))
    own = table["source"].isin(table["source"][held]) if held.any() else True
    paths = sorted(table["path"][~held & own])
    if len(paths) < LEAST:
        raise InputError(
            f"{sources.named}: found {len(paths)} images of people to train on, expected at least {LEAST} "
            "to calibrate int8 on; give the training data with --calibration, or use --precision fp32"
        )
    drawn = np.random.default_rng(0).choice(len(paths), min(CALIBRATED_ON, len(paths)), replace=False)
    return [Path(paths[place]) for place in sorted(drawn)]


def find_validation_images(sources: CalibrationData, held_out: Arrays, validation: Path) -> list[Path]:
    """The images of `validation`, in its order: where they were in training, else in the training data.

    Raises:
        InputError: some are in neither place.
    """
    table = sources.table
    by_name = {
        (person, Path(path).name): path for person, path in zip(table["person"], table["path"], strict=True)
    }
    paths = []
    for person, told in zip(held_out["person"].astype(str), held_out["path"].astype(str), strict=True):
        path = Path(told)
        paths.append(path if path.is_file() else Path(by_name.get((person, path.name), path)))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{validation}: {len(missing)} of its {len(paths)} images, on which int8 is checked, are not "
            f"there, such as {missing[0]}; give all training data with --calibration, or use --precision fp32"
        )
    return paths


def batches(trained: TrainedHead, paths: Sequence[Path], sources: CalibrationData) -> Iterator[torch.Tensor]:
    """Batches of images in the head's evaluation pipeline: uint8 [B, 3, H, W]."""
    pipeline = Pipeline(trained.config.pixels.evaluate)
    images = ImageDataset(paths, [pipeline], read=sources.read)
    loader = DataLoader(
        images,
        BATCH,
        sampler=SequentialIndices(len(paths)),
        num_workers=sources.workers,
        worker_init_fn=init_worker,
    )
    return (batch.pixels[0] for batch in loader)
