"""From heads and images to the submission, a part at a time: memory does not grow with the number of images."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data.files import sweep, written_whole
from data.stopping import Stopped
from ensemble.decide import argmax
from ensemble.engines import Engine, on_torch
from ensemble.parts import Collector, Parts
from ensemble.predict import Read, Task, predict_tasks
from ensemble.probabilities import FILE_NAME, IDENTITY, write_probabilities
from ensemble.submission import ID, write_submission

UNSEEN, REASON = "unseen.csv", "reason"


def predict_into(
    parts: Parts,
    tasks: Mapping[str, Task],
    device: torch.device,
    batch_size: int = 64,
    workers: int = 0,
    skip_bad: bool = False,
    read: Read | None = None,
    engine: Engine = on_torch,
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

    Raises:
        Stopped: a signal asked for the end; what was predicted is kept.
    """
    paths = parts.paths
    start = parts.finished(batch_size)
    if start:
        print(f"going on after {start} of {len(paths)} answers", flush=True)
    collector = Collector(parts, start)
    unseen: list[tuple[int, str]] | None = [] if skip_bad else None
    batches = predict_tasks(tasks, paths[start:], device, batch_size, workers, unseen, read, engine)
    total = -(-len(paths) // batch_size)
    try:
        for batch in tqdm(batches, "combine", total, initial=start // batch_size, disable=None, unit="batch"):
            arrays = {name: merged for name, (merged, _) in batch.items()}
            arrays |= {f"{name}/{IDENTITY}": identity for name, (_, identity) in batch.items()}
            reasons = [""] * len(next(iter(arrays.values())))
            for row, reason in unseen or []:
                reasons[row % batch_size] = reason
            if unseen:
                unseen.clear()
            collector.add({**arrays, REASON: np.array(reasons, dtype=np.str_)})
    except Stopped as stopped:
        collector.flush()
        stopped.kept = f"{collector.start} of {len(paths)} answers are kept; the same command goes on"
        raise
    collector.flush()


def write_answers(out: Path, ids: Sequence[str], tasks: Mapping[str, Task], parts: Parts) -> int:
    """Write what `parts` hold: probabilities.npz, then `out`, and beside them the list of unseen images.

    Returns the number of images that could not be seen; without any, a list of an earlier run is removed.
    """
    beside = out.parent / UNSEEN
    for written in (out.parent / FILE_NAME, out, beside):
        sweep(out.parent, written.stem)
    classes = {name: task.classes for name, task in tasks.items()}
    write_probabilities(out.parent / FILE_NAME, ids, classes, parts)
    write_submission(out, ids, _answers(parts, list(tasks)))
    unseen = [(name, reason) for name, reason in zip(ids, _reasons(parts), strict=True) if reason]
    if not unseen:
        beside.unlink(missing_ok=True)
        return 0
    with written_whole(beside) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([(ID, REASON), *unseen])
    return len(unseen)


def _answers(parts: Parts, tasks: Sequence[str]) -> Iterator[int]:
    for part in parts:
        yield from argmax([part[name] for name in tasks]).tolist()


def _reasons(parts: Parts) -> Iterator[str]:
    for part in parts:
        yield from part[REASON].tolist()
