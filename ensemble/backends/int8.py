"""Heads in int8: calibrated on images they were trained on, judged on those of their validation people.

What was load_int8_backend is kept in a hidden folder `.int8` of the head's run, one file a head, whole or not at all.
It is named by a digest of all that decides it (the head, the images to calibrate and to judge on, packages
and processor), so that one that is out of date is never found; damage is told by the checksums inside.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data.annotations.table import read_table
from data.audit.predictions import read_validation
from data.dataset import Read
from data.images.crop import CroppedReader
from data.runtime.errors import raise_all
from data.runtime.files import remove_unfinished
from data.runtime.locks import hold_lock
from ensemble.backends.calibration_data import (
    CalibrationData,
    batches,
    find_validation_images,
    select_calibration_images,
)
from ensemble.backends.engines import torch_backend
from ensemble.backends.quantise import Model, has_dot_products, quantise, run_model, versions
from ensemble.inference.parts import fingerprint
from ensemble.inference.predictor import Task
from heads.build import TrainedHead
from heads.run.folder import write_arrays
from heads.run.manifest import verify_checksum
from heads.train.validation import Predictions, compute_metrics

FORMAT = 2
MOST_LOST = 0.003  # of macro F1
IN_FLOAT = (0, 1, 5)  # first convolutions, until that is kept; five are resnet18's up to its first stage
FOLDER = ".int8"
DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class QuantisedHead:
    """A load_int8_backend head.

    Attributes:
        model: what OpenVINO runs.
        before, after: macro F1 on the validation images, in single precision and in int8.
    """

    model: Model
    before: float
    after: float

    @property
    def is_good(self) -> bool:
        """Whether it loses no more than is allowed."""
        return self.before - self.after <= MOST_LOST


@dataclass(frozen=True)
class Int8Backend:
    """The engine that runs load_int8_backend heads.

    Attributes:
        models: by the checksum of the head that they were made of.
        digest: of all that decided them.
    """

    models: Mapping[str, Model]
    digest: str

    def __call__(self, trained: TrainedHead) -> nn.Module:
        return run_model(self.models[trained.checksum])


def load_int8_backend(
    tasks: Mapping[str, Task],
    training: Sequence[Path],
    beside: Path,
    read: Read,
    workers: int = 0,
) -> Int8Backend:
    """All heads of `tasks` in int8, made now or kept from before.

    Args:
        tasks: by name, their heads out of files; `validation.npz` stands beside each.
        training: the data folders that the heads were trained on.
        beside: takes the folder `.int8` where a run's folder cannot be written to.
        read: gives an image's pixels.
        workers: decoding processes.

    Raises:
        InputError: a package is missing; there are too few images to calibrate on; those of the validation
            people are not there; or heads lose more than `MOST_LOST` of macro F1, which are told all at once.
    """
    mark = read.digest if isinstance(read, CroppedReader) else ""
    how = [FORMAT, mark, MOST_LOST, *versions()]
    sources = CalibrationData(read_table(training), ", ".join(map(str, training)), read, workers)
    models, keys, problems = {}, [], []
    for task, its in tasks.items():
        for trained in its.heads:
            key, kept = _quantise_head(trained, sources, beside, how)
            folder = trained.run.folder
            told = f"macro F1 {kept.before:.4f} in float32, {kept.after:.4f} in int8 on its validation people"
            print(f"{task}: {folder}: {told}", flush=True)
            if not kept.is_good:
                problems.append(f"{folder}: {told}, expected to lose at most {MOST_LOST}")
            models[trained.checksum] = kept.model
            keys.append(key)
    raise_all("--precision int8: heads lose too much, use --precision fp32", problems)
    return Int8Backend(models, ",".join(keys))


def _quantise_head(
    trained: TrainedHead, sources: CalibrationData, beside: Path, how: Sequence[object]
) -> tuple[str, QuantisedHead]:
    """A head in int8 and the key it is kept under."""
    folder, validation = trained.run.folder, trained.run.validation
    held_out, with_fix = read_validation(validation), not has_dot_products()
    shown = select_calibration_images(sources, held_out)
    judged = find_validation_images(sources, held_out, validation)
    decides = [
        how,
        with_fix,
        trained.checksum,
        verify_checksum(validation)[0],
        fingerprint(shown),
        fingerprint(judged),
    ]
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:24]
    place = folder / FOLDER if os.access(folder, os.W_OK) else beside / FOLDER / trained.checksum[:16]
    with hold_lock(place / ".lock", str(place), f"{place}: waiting for another process that quantises there"):
        kept = _load(place / f"{key}.npz")
        if kept is None:
            pixels = list((torch.cat(list(batches(trained, shown, sources))).float() / 255).numpy())
            truth = held_out["truth"].astype(np.int64)

            def made(in_float: int) -> QuantisedHead:
                model = quantise(trained, pixels, with_fix, in_float)
                modules = (torch_backend(trained), run_model(model))
                return QuantisedHead(model, *_macro_f1(trained, modules, judged, truth, sources))

            kept = made(IN_FLOAT[0])
            for in_float in IN_FLOAT[1:]:
                kept = kept if kept.is_good else made(in_float)
            _save(place / f"{key}.npz", kept)
    return key, kept


def _macro_f1(
    trained: TrainedHead,
    modules: Sequence[nn.Module],
    paths: Sequence[Path],
    truth: npt.NDArray[np.int64],
    sources: CalibrationData,
) -> list[float]:
    """Macro F1 of each of the modules that stand for a head, over all classes, one plain view each."""
    answers: list[list[npt.NDArray[np.float32]]] = [[] for _ in modules]
    with torch.inference_mode():
        for pixels in batches(trained, paths, sources):
            for module, its in zip(modules, answers, strict=True):
                its.append(trained.target.probabilities(module(pixels)).numpy())
    return [compute_metrics(Predictions(np.concatenate(its), None), truth, None)["macro_f1"] for its in answers]


def _load(file: Path) -> QuantisedHead | None:
    """What is kept in a file, or None where nothing whole is there."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            model = arrays["graph"].tobytes(), arrays["weights"].tobytes()
            before, after = arrays["macro_f1"].tolist()
    except DAMAGED:
        return None
    return QuantisedHead(model, before, after)


def _save(file: Path, kept: QuantisedHead) -> None:
    """Write one head's file in place of all others."""
    file.parent.mkdir(parents=True, exist_ok=True)
    graph, weights = (np.frombuffer(part, dtype=np.uint8) for part in kept.model)
    write_arrays(file, {"graph": graph, "weights": weights, "macro_f1": [kept.before, kept.after]})
    remove_unfinished(file.parent)
    for other in file.parent.glob("*.npz"):
        if other != file:
            other.unlink(missing_ok=True)
