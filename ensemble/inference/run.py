"""From heads and images to the submission, a part at a time: memory does not grow with the number of images."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from data.annotations.listing import ID
from data.runtime.files import remove_unfinished, write_atomically
from data.runtime.signals import Stopped
from ensemble.backends.engines import Backend, torch_backend
from ensemble.files.predictions import FILE_NAME, IDENTITY, NUMBER, VIEWS, write_probabilities
from ensemble.files.submission import write_submission
from ensemble.inference.early_exit import adaptive_views, count_views
from ensemble.inference.parts import Collector, ResultParts, window_size
from ensemble.inference.predictor import Read, Result, Task, all_views, predict_tasks, tasks_with_numbers
from ensemble.metrics.decide import argmax

UNSEEN, REASON = "unseen.csv", "reason"


def predict_to_parts(
    parts: ResultParts,
    tasks: Mapping[str, Task],
    device: torch.device,
    batch_size: int = 64,
    workers: int = 0,
    skip_bad: bool = False,
    read: Read | None = None,
    engine: Backend = torch_backend,
    margins: Mapping[str, float] | None = None,
) -> None:
    """Fill `parts` with every task's probabilities of all its images, going on from those that are there.

    Args:
        parts: written to.
        tasks: by name.
        device: that the heads are moved to.
        batch_size: images at once.
        workers: decoding processes.
        skip_bad: an image that cannot be decoded gets equal probabilities and a reason; else it is an error.
        read: gives an image's pixels; decodes its file unless told otherwise.
        engine: computes the heads.
        margins: of `ensemble.inference.early_exit`, by task; without them every image is shown in all views.

    Raises:
        Stopped: a signal asked for the end; what was predicted is kept.
    """
    paths = parts.paths
    together = batch_size if margins is None else window_size(batch_size)
    start = parts.finished(together)
    if start:
        print(f"going on after {start} of {len(paths)} answers", flush=True)
    collector = Collector(parts, start)
    unseen: list[tuple[int, str]] | None = [] if skip_bad else None
    answer = (
        all_views
        if margins is None
        else partial(adaptive_views, margins=margins, batch_size=batch_size, window=together)
    )
    batches = predict_tasks(tasks, paths[start:], device, batch_size, workers, unseen, read, engine, answer)
    total = -(-len(paths) // batch_size)
    try:
        for batch in tqdm(batches, "combine", total, initial=start // batch_size, disable=None, unit="batch"):
            arrays: dict[str, npt.NDArray[Any]] = {name: said.merged for name, said in batch.items()}
            arrays |= {f"{name}/{IDENTITY}": said.identity for name, said in batch.items()}
            arrays |= {
                f"{name}/{NUMBER}": said.number for name, said in batch.items() if said.number is not None
            }
            reasons = [""] * len(next(iter(arrays.values())))
            for row, reason in unseen or []:
                reasons[row % batch_size] = reason
            if unseen:
                unseen.clear()
            if margins is not None:
                arrays |= _views(tasks, batch, margins, reasons)
            collector.add({**arrays, REASON: np.array(reasons, dtype=np.str_)})
    except Stopped as stopped:
        if margins is None:  # else what was gathered ends in the middle of what is computed together
            collector.flush()
        stopped.kept = f"{collector.start} of {len(paths)} answers are kept; the same command goes on"
        raise
    collector.flush()


def write_results(
    out: Path, ids: Sequence[str], tasks: Mapping[str, Task], parts: ResultParts, with_views: bool = False
) -> int:
    """Write what `parts` hold: probabilities.npz, then `out`, and beside them the list of unseen images.

    `with_views` tells that they were filled with margins, and hold in how many views each image was shown.
    Returns the number of images that could not be seen; without any, a list of an earlier run is removed.
    """
    beside = out.parent / UNSEEN
    for written in (out.parent / FILE_NAME, out, beside):
        remove_unfinished(out.parent, written.stem)
    classes = {name: task.classes for name, task in tasks.items()}
    write_probabilities(out.parent / FILE_NAME, ids, classes, parts, with_views, tasks_with_numbers(tasks))
    write_submission(out, ids, _answers(parts, list(tasks)))
    unseen = [(name, reason) for name, reason in zip(ids, _reasons(parts), strict=True) if reason]
    if not unseen:
        beside.unlink(missing_ok=True)
        return 0
    with write_atomically(beside) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([(ID, REASON), *unseen])
    return len(unseen)


def write_names(out: Path, ids: Sequence[str], tasks: Mapping[str, Task], parts: ResultParts) -> None:
    """Write every image's likeliest class of each task by name, its probability, and numbers, as CSV.

    They are empty for an image that could not be seen.
    """
    numbers = tasks_with_numbers(tasks)
    header = [ID]
    for name in tasks:
        header += [name, f"{name}_probability", *([f"{name}_{NUMBER}"] if name in numbers else [])]
    listed = iter(ids)
    with write_atomically(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for part in parts:
            for row, reason in enumerate(part[REASON].tolist()):
                told = [""] * (len(header) - 1) if reason else _named(tasks, part, row)
                writer.writerow([next(listed), *told])


def _named(tasks: Mapping[str, Task], part: Mapping[str, npt.NDArray[Any]], row: int) -> list[str]:
    """Class, probability and number, if it predicts one, of each task for a row of a part."""
    told = []
    for name, task in tasks.items():
        likeliest = int(part[name][row].argmax())
        told += [task.classes[likeliest], f"{part[name][row, likeliest]:.3f}"]
        if (number := part.get(f"{name}/{NUMBER}")) is not None:
            told.append(f"{number[row]:.1f}")
    return told


def _views(
    tasks: Mapping[str, Task], batch: Result, margins: Mapping[str, float], reasons: Sequence[str]
) -> dict[str, npt.NDArray[np.uint8]]:
    """`NAME/views` [B] of each task; 0 where there is a reason why the image could not be seen."""
    seen = np.array([not reason for reason in reasons])
    return {
        f"{name}/{VIEWS}": count_views(said.identity, margins[name], len(tasks[name].views)) * seen
        for name, said in batch.items()
    }


def _answers(parts: ResultParts, tasks: Sequence[str]) -> Iterator[int]:
    for part in parts:
        yield from argmax([part[name] for name in tasks]).tolist()


def _reasons(parts: ResultParts) -> Iterator[str]:
    for part in parts:
        yield from part[REASON].tolist()
