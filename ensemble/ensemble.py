"""The heads of a joint code in a folder of runs: each task's run, or all folds of it."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.runtime.errors import raise_all
from ensemble.config import load_labels
from ensemble.inference.predictor import Task, build_task
from heads.build import TrainedHead, load_head
from heads.config.task import Label
from heads.run.folder import find_trained_runs, run_folder
from heads.run.manifest import verify_checksum


def find_checkpoints(runs: Path, tasks: Iterable[str]) -> dict[str, list[Path]]:
    """The checkpoints of each task; all tasks without any are told at once.

    Raises:
        InputError: a task has no head in `runs`.
    """
    files = {task: [run.best for run in find_trained_runs(runs, task)] for task in tasks}
    for task, found in files.items():
        alone = run_folder(runs, task).best
        if found and alone not in found and alone.is_file():
            told = "left out, since folds stand beside it; move either of them to answer by the other"
            print(f"{alone}: {told}", file=sys.stderr)
    raise_all(
        f"{runs}: heads are missing",
        [
            f"{task}: found no {task}/best.safetensors, expected one; train_task.py --task {task} makes it, "
            "--config FILE names other tasks"
            for task, found in files.items()
            if not found
        ],
    )
    return files


def crop_warning(trained: float | None, shown: float | None) -> str | None:
    """What to tell of a head trained on faces cropped to boxes, where it is shown something else.

    Margins are those of --box-margin; None stands for whole images. Nothing is told of a head trained on
    whole images, which may frame their faces as boxes crop them.
    """
    if trained is None or trained == shown:
        return None
    answers = "whole images" if shown is None else f"a margin of {shown:g}"
    return (
        f"trained on faces cropped to boxes with a margin of {trained:g} (--boxes), answers here for {answers}"
    )


def _fold_settings(head: TrainedHead, first: TrainedHead) -> list[tuple[str, Any, Any]]:
    """What the folds of a task have in common, as (key, its own, the first one's): pixels, views, outputs.

    Their probabilities are averaged: two folds may name a class alike and cut it from a number otherwise.
    """
    common = {
        "pixels": ("evaluate",),
        "views": ("steps", "merge"),
        "label": ("column", "parts", "distribution", "ordinal"),
    }
    return [
        (f"{section}.{key}", *(getattr(getattr(each.config, section), key) for each in (head, first)))
        for section, keys in common.items()
        for key in keys
    ]


def load_heads(config: Path, runs: Path, box_margin: float | None = None) -> dict[str, Task]:
    """Open every head of the joint code, as `load_task_heads` does."""
    return load_task_heads(runs, load_labels(config), box_margin, f"{config}: heads do not fit the joint code")


def load_task_heads(
    runs: Path,
    expected: Mapping[str, Label | None],
    box_margin: float | None = None,
    headline: str = "folds of one task do not fit together",
) -> dict[str, Task]:
    """Open every head of some tasks; all that are missing or do not fit are told at once.

    Args:
        runs: the folder of their runs.
        expected: the label of each task, whose classes and borders are asked for; None for its first fold's.
        box_margin: of the boxes that images are cropped to here; heads trained otherwise are told of.
        headline: of the message on heads that do not fit.

    Raises:
        InputError: heads that are missing, damaged, or do not fit.
    """
    tasks = {}
    problems = []
    for task, found in find_checkpoints(runs, expected).items():
        checks = [verify_checksum(path) for path in found]
        for _, note in checks:
            print(note, end="\n" if note else "", file=sys.stderr)
        heads = [
            replace(load_head(path), checksum=checksum)
            for path, (checksum, _) in zip(found, checks, strict=True)
        ]
        label = expected[task] or heads[0].config.label
        for path, head in zip(found, heads, strict=True):
            for key, its, wanted in (
                ("classes", head.config.label.classes, label.classes),
                ("label.borders", head.config.label.borders, label.borders),
                *_fold_settings(head, heads[0]),
            ):
                if its != wanted:
                    problems.append(f"{path}: found the {key} {its}, expected {wanted}")
            if (told := crop_warning(head.box_margin, box_margin)) is not None:
                print(f"{path}: {told}", file=sys.stderr)
        print(f"{task}: {', '.join(str(path) for path in found)}")
        try:
            tasks[task] = build_task(heads)
        except ValueError as error:
            problems.append(f"{found[0]}: views.steps: {error}")
    raise_all(headline, problems)
    return tasks
