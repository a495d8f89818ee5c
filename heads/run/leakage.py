"""Data leakage: people that a head is validated on and its backbone was trained on."""

import re
from collections.abc import Iterable
from pathlib import Path

from data.annotations.table import original_person, source_name
from data.audit.predictions import read_validation
from data.runtime.errors import InputError
from heads.run.folder import RunFolder, run_folder

PREFIX = "run:"


def source_run_name(weights: str) -> str | None:
    """Return NAME if a config's `backbone.weights` is run:NAME.

    >>> source_run_name("run:age_backbone"), source_run_name("imagenet")
    ('age_backbone', None)
    """
    return weights.removeprefix(PREFIX) if weights.startswith(PREFIX) else None


def find_source_run(weights: str, runs: Path, fold: int | None) -> RunFolder | None:
    """Find the run that `run:NAME` refers to, of the same fold if there is one; None for other weights.

    Raises:
        InputError: the run has no head yet.
    """
    task = source_run_name(weights)
    if task is None:
        return None
    run = run_folder(runs, task)
    if fold is not None and run_folder(runs, task, fold).best.is_file():
        run = run_folder(runs, task, fold)
    if not run.best.is_file():
        raise InputError(
            f"backbone.weights={weights}: {run.best} does not exist; "
            f"train it first with train_task.py --task {task} --runs {runs}"
        )
    return run


def leakage_warning(run: RunFolder, people: Iterable[str]) -> str:
    """Warn if the backbone's `run` was trained on validation `people`; empty if it was not.

    The run was trained on the people in its data who were not in its validation fold. People of derived images
    (`data.masked`) are those of the originals. A run without validation.npz is not checked.

    Args:
        run: finished.
        people: from the table's column `person`, which names a person's data folder and its content.
    """
    if not run.validation.is_file():
        return ""
    head_people = set(people)
    validated = set(read_validation(run.validation)["person"].tolist())
    originals = set(map(original_person, validated))
    original_sources = set(map(source_name, originals))
    leaked = [
        person
        for person in map(original_person, head_people)
        if person not in originals and source_name(person) in original_sources
    ]
    warning = ""
    if leaked:
        warning += (
            f"{run.folder}: this backbone was trained on {len(leaked)} people in the head's validation set, which "
            "inflates its metrics; train the backbone with the --fold and the split of the head\n"
        )
    sources = set(map(source_name, validated))
    changed = {_folder(source) for source in set(map(source_name, head_people)) - sources}
    for name in sorted(changed & set(map(_folder, sources))):
        warning += (
            f"{run.folder}: this backbone was trained on a folder {name} with other files; if images were added "
            "or removed, its folds differ and it may have been trained on people in the head's validation set: "
            "train it again\n"
        )
    return warning


def _folder(source: str) -> str:
    """Return the folder's name without the digest that `source_name` includes.

    >>> _folder("my-train-0123abcd"), _folder("my-train-0123abcd-2")
    ('my-train', 'my-train')
    """
    return re.sub(r"-[0-9a-f]{8}(-\d+)?$", "", source)
