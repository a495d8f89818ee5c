"""Teachers: probabilities of other heads or of a file, or embeddings, which a head learns from beside its labels.

Distillation: Hinton, Vinyals & Dean 2015, arXiv:1503.02531. A teacher's file has the image's `path` (absolute, or
relative to its data folder or `images/` there) and the probability of each class, or of each number that the head has
outputs for. As CSV or Parquet they are columns, named by the class or probability_CLASS; as .npz the arrays `path`
[N], `classes` [K] and `probabilities` [N, K], as in a run's validation.npz. A row of NaN or empty cells is an image
without a teacher. Embeddings, such as a face recogniser's, are an .npz of `path` [N] and `embeddings` [N, D].
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from accelerate import Accelerator

from data.annotations.table import number_people, paths_in_sources
from data.dataset import ImageDataset, SequentialIndices
from data.images.crop import make_reader
from data.runtime.arrays import read_arrays, write_arrays
from data.runtime.errors import InputError, did_you_mean, raise_all
from data.transforms.pipeline import Pipeline
from data.transforms.views import make_views
from heads.load import TrainedHead, load_head
from heads.model.fusion import fuse_batch_norm
from heads.objective.targets import Target
from heads.run.folder import SOURCE_RUN, file_checksum, find_trained_runs
from heads.run.leakage import TrainingPeople, find_training_people, hash_person
from heads.train.loaders import FEATURES_BATCH, ProcessBatches, make_loader

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Teacher:
    """A teacher's answers for rows of images.

    Attributes:
        names: classes or numbers [K]; empty of embeddings.
        answers: probabilities [N, K], rows sum to 1, or embeddings [N, D]; rows are NaN where the image has no teacher.
        checksum: of the heads or the file.
        people: whom the heads were trained on.
    """

    names: list[str]
    answers: Floats
    checksum: str
    people: TrainingPeople


def find_teacher_heads(names: Sequence[str], runs: Path) -> list[Path]:
    """Find the checkpoints of run:NAME in `runs`, of a run's folder, its folds or a file.

    Raises:
        InputError: those that have none.
    """
    found: dict[str, list[Path]] = {}
    for name in names:
        path = runs / name.removeprefix(SOURCE_RUN) if name.startswith(SOURCE_RUN) else Path(name)
        found[name] = [path] if path.is_file() else [run.best for run in find_trained_runs(path.parent, path.name)]
    missing = [f"{name}: found no best.safetensors, nor folds" for name, files in found.items() if not files]
    raise_all("teacher.runs: heads are missing; train them first with train_task.py", missing)
    return [file for files in found.values() for file in files]


def ask_heads(
    files: Sequence[Path],
    rows: pd.DataFrame,
    target: Target,
    store: Path,
    allow_training_people: bool,
    boxes: Path | None,
    workers: int,
    accelerator: Accelerator,
) -> Teacher:
    """Average the heads' probabilities over their views and over those heads that were not trained on the person.

    They are computed once, in single precision, and stored in an .npz file that is itself a teacher's file.

    Args:
        files: checkpoints.
        rows: images with `path` and `person`.
        target: of the head that learns from them.
        store: the .npz file.
        allow_training_people: also ask heads about people whom they were trained on, or may have been.
        boxes: face boxes, for heads that were trained on faces cropped to them.

    Raises:
        InputError: a head has other classes.
    """
    people = [find_training_people(file) for file in files]
    hashes = rows["person"].map(hash_person)
    chosen = [
        np.full(len(rows), not each.unknown) & ~hashes.isin(each.hashes).to_numpy() | allow_training_people
        for each in people
    ]
    checksum = hashlib.sha256("".join(map(file_checksum, files)).encode()).hexdigest()
    meaning = [target.names, target.classes, target.borders, None if boxes is None else file_checksum(boxes)]
    key = json.dumps([checksum, [each.tolist() for each in chosen], meaning, rows["path"].tolist()])
    key = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    used = reduce(or_, (each for each, mask in zip(people, chosen, strict=True) if mask.any()), TrainingPeople())
    with accelerator.main_process_first():  # one process computes, the others find the file
        arrays = read_arrays(store, "a teacher's file") if store.is_file() else {}
        if str(arrays.get("key")) != key:
            heads = [load_head(file) for file in files]
            names = _shared_names(heads, target)
            total, count = np.zeros((len(rows), len(names))), np.sum(chosen, axis=0)[:, None]
            for head, mask in zip(heads, chosen, strict=True):
                if mask.any():
                    total[mask] += _predict(
                        head, rows["path"][mask].tolist(), names, boxes, workers, accelerator.device
                    )
            probabilities = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
            arrays = {
                "path": rows["path"].to_numpy(dtype=np.str_),
                "person": rows["person"].to_numpy(dtype=np.str_),
                "classes": np.array(names),
                "probabilities": probabilities.astype(np.float32),
                "people": np.array(sorted(used.hashes), dtype=np.str_),
                "unknown": np.array(used.unknown, dtype=np.str_),
                "key": np.array(key),
            }
            write_arrays(store, arrays)
    return Teacher(arrays["classes"].tolist(), arrays["probabilities"], checksum, used)


def _shared_names(heads: Sequence[TrainedHead], target: Target) -> list[str]:
    """Return what the heads' probabilities are of: the target's numbers if all have the same, else its classes."""
    if target.numbers is not None and all(head.target.numbers == target.numbers for head in heads):
        return target.names
    problems = [
        f"{head.file}: found the classes {', '.join(head.classes)}{cut}, expected {', '.join(target.classes)}{wanted}"
        for head in heads
        for cut, wanted in [
            [f" with the borders {each.borders}" if each.borders else "" for each in (head.target, target)]
        ]
        if set(head.classes) != set(target.classes) or head.target.borders != target.borders
    ]
    raise_all("teacher.runs: heads of other classes than this one's", problems)
    return list(target.classes)


def _predict(
    trained: TrainedHead,
    paths: Sequence[str],
    names: Sequence[str],
    boxes: Path | None,
    workers: int,
    device: torch.device,
) -> npt.NDArray[np.float64]:
    """Predict images as the head was validated, in all of its views; return their mean probabilities [N, K]."""
    margin = trained.box_margin
    if margin is not None and boxes is None:
        print(
            f"{trained.file}: a teacher of faces cropped to boxes, asked about whole images; name --boxes",
            file=sys.stderr,
        )
    read = make_reader(None if margin is None else boxes, margin or 0.0)
    images = ImageDataset(paths, [Pipeline(trained.config.pixels.evaluate)], read=read)
    batches = ProcessBatches(SequentialIndices(len(images)), FEATURES_BATCH)
    views, head = make_views(trained.config.views.steps).values(), fuse_batch_norm(trained.head).to(device)
    print(f"teacher: {trained.file} predicts {len(images)} images once", flush=True)
    means = []
    with torch.inference_mode():
        for batch in make_loader(images, batches, workers, 0):
            pixels = batch.pixels[0].to(device).float() / 255
            outputs = [trained.target.distribution(head(view(pixels)), names) for view in views]
            means.append(torch.stack(outputs).mean(dim=0).cpu().double().numpy())
    return np.concatenate(means)


def read_teacher(file: Path, rows: pd.DataFrame, target: Target, required: npt.NDArray[np.bool_]) -> Teacher:
    """Read a teacher's file (see above) for rows of images with `path` and `source`.

    Images [N] that are `required` must be in it; others that it lacks have no teacher.

    Raises:
        InputError: it cannot be read, lacks images or classes, has other classes, or rows that are no probabilities.
    """
    table, people = _read_table(file)
    names = target.names if set(target.names) <= set(table) else list(target.classes)
    expected = f"expected {', '.join(target.classes)}" + (" or all numbers" if target.numbers is not None else "")
    problems = [f"lacks {name}, {expected}" for name in names if name not in table]
    problems += [
        f"found {name}{did_you_mean(name, names)}, {expected}" for name in map(str, table) if name not in names
    ]
    raise_all(f"{file}: the classes are not those of this head", problems)
    values = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
    wrong = ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 1e-3) | table[names].isna().all(axis=1))
    problems = [f"{path}: found {row.tolist()}" for path, row in zip(table.index[wrong], values[wrong], strict=True)]
    raise_all(f"{file}: rows are no probabilities, expected numbers from 0 that sum to 1", problems)
    places = _find_images(file, rows, table.index)
    missing = rows["path"][required & (places < 0)].tolist()
    raise_all(f"{file}: lacks training images, expected a row of each (empty if it has no teacher)", missing)
    probabilities = np.where((places < 0)[:, None], np.float32(np.nan), values[places])
    return Teacher(names, probabilities, file_checksum(file), people)


def read_embeddings(file: Path, rows: pd.DataFrame) -> Teacher:
    """Read embeddings for rows of images with `path` and `source`; images that the file lacks have no teacher.

    Raises:
        InputError: it cannot be read, has embeddings of fewer than two of these images, or a path for several.
    """
    arrays = read_arrays(file, "a teacher's file") if file.suffix == ".npz" else {}
    paths, values = arrays.get("path"), arrays.get("embeddings")
    if paths is None or values is None or values.ndim != 2 or not len(paths) == len(values) > 0:
        found = {name: list(array.shape) for name, array in arrays.items()} or file.suffix
        raise InputError(f"{file}: found {found}, expected an .npz file with path [N] and embeddings [N, D]")
    places = _find_images(file, rows, pd.Index(paths.astype(str), dtype=object))
    embeddings = np.where((places < 0)[:, None], np.float32(np.nan), values[places].astype(np.float32))
    known, missing = np.isfinite(embeddings).all(axis=1), np.isnan(embeddings).all(axis=1)
    wrong = rows["path"].to_numpy()[~(known | missing)].tolist()
    raise_all(f"{file}: embeddings are not finite, expected numbers, or NaN throughout without a teacher", wrong)
    if known.sum() < 2:
        raise InputError(f"{file}: has embeddings of {known.sum()} training images, expected two or more")
    return Teacher([], embeddings, file_checksum(file), TrainingPeople(unknown=(file.name,)))


def _read_table(file: Path) -> tuple[pd.DataFrame, TrainingPeople]:
    """Read probabilities by path (index) and class (columns), and whom the teacher was trained on."""
    people = TrainingPeople(unknown=(file.name,))
    try:
        if file.suffix == ".npz":
            arrays = read_arrays(file, "a teacher's file")
            if "people" in arrays:
                people = TrainingPeople(frozenset(arrays["people"].tolist()), tuple(arrays["unknown"].tolist()))
            paths, classes = (arrays[name].astype(str).tolist() for name in ("path", "classes"))
            return pd.DataFrame(arrays["probabilities"], pd.Index(paths, dtype=object), classes), people
        table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype={"path": str})
        table = table.set_index("path").drop(columns="person", errors="ignore")
    except (OSError, ValueError, KeyError, ImportError) as error:
        expected = (
            "a .csv or .parquet file with path and a column for each class, or .npz with path, classes, probabilities"
        )
        raise InputError(f"{file}: cannot be read ({error}), expected {expected}") from None
    return table.rename(columns=lambda name: str(name).removeprefix("probability_")), people


def _find_images(file: Path, rows: pd.DataFrame, paths: "pd.Index[str]") -> npt.NDArray[np.int64]:
    """Find the place of each image [N] in a file by its path, or the part within its data folder or `images/`.

    It is -1 of images that the file lacks. A path of several images is refused.
    """
    places = {path: place for place, path in enumerate(paths)}
    found = []
    for path, inside in zip(rows["path"], paths_in_sources(rows), strict=True):
        names = (path, inside, inside.removeprefix("images/"))
        found.append(next((places[name] for name in names if name in places), -1))
    found_places = np.array(found, dtype=np.int64)
    twice = paths[np.bincount(found_places[found_places >= 0], minlength=len(paths)) > 1]
    raise_all(f"{file}: paths are of several images; write them in full", [*twice, *paths[paths.duplicated()]])
    return found_places


def average_person(answers: Floats, rows: pd.DataFrame, column: str, value: str) -> Floats:
    """Give each image [N] the mean of the rows of its person's images whose label in `column` is `value`.

    Images of people who have none, or none with a teacher, keep their own row of `answers` [N, K].
    """
    if column not in rows or not (chosen := rows[column].astype(str).to_numpy() == value).any():
        raise InputError(f"teacher.look_at: no training image has {column}={value!r}, expected a column and its value")
    people = number_people(rows)
    means = pd.DataFrame(answers[chosen]).groupby(people[chosen]).mean().reindex(people).to_numpy(np.float32)
    return np.where(np.isnan(means), answers, means)
