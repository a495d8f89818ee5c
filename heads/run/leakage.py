"""The run that a head's backbone comes from, and whom of the head's validation people it has learnt from."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.annotations.table import original_person, source_name
from data.runtime.errors import InputError
from heads.run.folder import RunFolder, run_folder

PREFIX = "run:"


def source_run_name(weights: str) -> str | None:
    """The NAME where a config's `backbone.weights` are run:NAME.

    >>> source_run_name("run:age_backbone"), source_run_name("imagenet")
    ('age_backbone', None)
    """
    return weights.removeprefix(PREFIX) if weights.startswith(PREFIX) else None


def find_source_run(weights: str, runs: Path, fold: int | None) -> RunFolder | None:
    """The run that `run:NAME` stands for, of the same fold where there is one; None for other weights.

    Raises:
        InputError: it has no head yet.
    """
    task = source_run_name(weights)
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


def leaked_people(run: RunFolder, people: Iterable[str]) -> set[str]:
    """Those of `people` whom `run` was trained on: all of the data that it validated on, but those.

    Args:
        run: a finished one; without the record of its validation nobody is known.
        people: of the table's column `person`, which names a person's data folder and its content. Those of
            images that were drawn out of others (`data.masked`) are the others' people, too.
    """
    judged = set(map(original_person, _validation_people(run)))
    sources = set(map(source_name, judged))
    return {
        each for each in people if (who := original_person(each)) not in judged and source_name(who) in sources
    }


def changed_sources(run: RunFolder, people: Iterable[str]) -> list[str]:
    """Names of folders that `people` and those whom `run` validated on share, but not their content."""
    judged = set(map(source_name, _validation_people(run)))
    names = {_folder(source) for source in judged}
    return sorted({_folder(each) for each in set(map(source_name, people)) - judged} & names)


def _validation_people(run: RunFolder) -> set[str]:
    """Whom a run was validated on; nobody where it has no record of that."""
    if not run.validation.is_file():
        return set()
    with np.load(run.validation) as arrays:
        return set(arrays["person"].tolist())


def _folder(source: str) -> str:
    """The folder's name in what `source_name` gives.

    >>> _folder("my-train-0123abcd"), _folder("my-train-0123abcd-2")
    ('my-train', 'my-train')
    """
    return re.sub(r"-[0-9a-f]{8}(-\d+)?$", "", source)


def leakage_warning(run: RunFolder, people: Iterable[str]) -> str:
    """What to tell the user where a backbone has learnt from a head's validation `people`; else nothing."""
    people = list(people)
    told, seen = "", leaked_people(run, people)
    if seen:
        told += (
            f"{run.folder}: this backbone was trained on {len(seen)} people whom the head is validated on, which "
            "flatters its figures; train the backbone with the --fold and the split of the head\n"
        )
    for name in changed_sources(run, people):
        told += (
            f"{run.folder}: this backbone was trained on a folder {name} of other files; if it is the same with "
            "some added or removed, its folds are others, and the backbone may have learnt from people whom the "
            "head is validated on: train it anew\n"
        )
    return told
