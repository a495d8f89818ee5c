"""The run that a head's trunk comes from, and whom of the head's validation people it has learnt from."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.manifest import source_name
from heads.run import RunFolder, run_folder

PREFIX = "run:"


def named_run(weights: str) -> str | None:
    """The NAME where a config's `backbone.weights` are run:NAME.

    >>> named_run("run:age_backbone"), named_run("imagenet")
    ('age_backbone', None)
    """
    return weights.removeprefix(PREFIX) if weights.startswith(PREFIX) else None


def trunk_run(weights: str, runs: Path, fold: int | None) -> RunFolder | None:
    """The run that `run:NAME` stands for, of the same fold where there is one; None for other weights.

    Raises:
        InputError: it has no head yet.
    """
    task = named_run(weights)
    if task is None:
        return None
    run = run_folder(runs, task)
    if fold is not None and run_folder(runs, task, fold).best.is_file():
        run = run_folder(runs, task, fold)
    if not run.best.is_file():
        raise InputError(
            f"backbone.weights={weights}: {run.best} is not there; "
            f"train it first with train_task.py --task {task} --runs {runs}"
        )
    return run


def people_seen(run: RunFolder, people: Iterable[str]) -> set[str]:
    """Those of `people` whom `run` was trained on: all of the data that it validated on, but those.

    Args:
        run: a finished one; without the record of its validation nobody is known.
        people: of the table's column `person`, which names a person's data folder and its content.
    """
    if not run.validation.is_file():
        return set()
    with np.load(run.validation) as arrays:
        judged = set(arrays["person"].tolist())
    sources = {source_name(person) for person in judged}
    return {person for person in people if source_name(person) in sources} - judged


def tell_of_seen(run: RunFolder, people: Iterable[str]) -> str:
    """What to tell the user where a trunk has learnt from a head's validation `people`; else nothing."""
    seen = people_seen(run, people)
    if not seen:
        return ""
    return (
        f"{run.folder}: this trunk was trained on {len(seen)} people whom the head is validated on, which "
        "flatters its figures; train the trunk with the --fold and the split of the head\n"
    )
