"""From finished runs to an `Evaluation` of the images that all heads were validated on."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.audit.predictions import read_validation
from data.runtime.errors import InputError, raise_all
from ensemble.config import numeric_borders
from ensemble.joint import encode
from ensemble.report.load.evaluation import Codes, Evaluation, HeadOutput, Number
from ensemble.report.load.runs import TrainingRun, find_task_runs, read_run
from heads.config.label import Label
from heads.run.folder import RunFolder

NAME = "validation"  # what the report calls the heads' answers


def load_validation(runs: Path, labels: Mapping[str, Label]) -> tuple[Evaluation, list[TrainingRun], list[str]]:
    """What the heads of `runs` said in their validation, as `ensemble.report.load.load_evaluation.load_evaluation` gives a submission.

    Each image is answered in one view, by the fold that was not trained on its person.

    Args:
        runs: the folder of the heads' runs.
        labels: of each task of the joint code, the most significant first.

    Raises:
        InputError: runs that are missing, of other classes, or that share no image.
    """
    folders = {task: find_task_runs(runs, task) for task in labels}
    tables = {task: pd.concat([_read_run(run, labels[task]) for run in its]) for task, its in folders.items()}
    twice = {task: table.index[table.index.duplicated()] for task, table in tables.items()}
    raise_all(
        f"{runs}: images that two folds were validated on, expected folds of one split",
        [f"{task}: {len(paths)} of them, such as {paths[0]}" for task, paths in twice.items() if len(paths)],
    )
    paths = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    if not paths:
        raise InputError(
            f"{runs}: no image is in the validation of {', '.join(tables)} alike; expected heads trained "
            "on the same people with the same split"
        )
    shared = {task: table.loc[paths] for task, table in tables.items()}
    radices = [len(label.classes) for label in labels.values()]
    heads = {task: HeadOutput(np.stack(table["probabilities"].tolist())) for task, table in shared.items()}
    truth = _codes([table["truth"].to_numpy() for table in shared.values()], radices)
    answers = _codes([head.merged.argmax(axis=1) for head in heads.values()], radices)
    people = next(iter(shared.values()))["person"].to_numpy(str)
    top = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    evaluation = Evaluation(
        {task: label.classes for task, label in labels.items()},
        [os.path.relpath(path, top) for path in paths],
        truth,
        {NAME: answers},
        people,
        _numbers(shared, labels),
        heads,
    )
    told = [read_run(run, str(run.folder.relative_to(runs))) for its in folders.values() for run in its]
    count = f"{len(paths)} images of {len(np.unique(people))} people, below {top}"
    note = f"{count}: all heads were validated on them, in one view, and the epochs kept were chosen on them."
    return evaluation, told, [note]


def _read_run(run: RunFolder, label: Label) -> pd.DataFrame:
    """What a head said of each image, by its path: truth, probabilities, person, value (NaN: unknown)."""
    arrays = read_validation(run.validation)
    wanted = {"classes": label.classes, "borders": label.borders or []}
    raise_all(
        f"{run.validation}: is of another label than the config's",
        [
            f"found the {key} {arrays[key].tolist()}, expected {expected}"
            for key, expected in wanted.items()
            if arrays[key].tolist() != expected
        ],
    )
    return pd.DataFrame(
        {
            "truth": arrays["truth"],
            "probabilities": list(arrays["probabilities"].astype(np.float32)),
            "person": arrays["person"].tolist(),
            "value": arrays.get("value", np.full(len(arrays["truth"]), np.nan)),
        },
        index=arrays["path"].tolist(),
    )


def _codes(digits: Sequence[Codes], radices: Sequence[int]) -> Codes:
    return np.asarray(encode(list(digits), radices), dtype=np.int64)


def _numbers(shared: Mapping[str, pd.DataFrame], labels: Mapping[str, Label]) -> list[Number]:
    """The numbers that tasks are cut from, each column once, where a head knew them."""
    numbers = []
    for column, cuts in numeric_borders(labels).items():
        told = (shared[task]["value"].to_numpy(np.float64) for task in cuts)
        known = next((values for values in told if not np.isnan(values).all()), None)
        if known is not None:
            numbers.append(Number(column, cuts, known))
    return numbers
