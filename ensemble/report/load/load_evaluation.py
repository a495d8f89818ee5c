"""Load an `Evaluation` from files: submissions, ground truth, people, probabilities and runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.table import PERSON_COLUMNS
from data.images.find import ID
from data.runtime.errors import InputError, printable, raise_all
from ensemble.files.predictions import FILE_NAME, IDENTITY, TEMPERATURE, TaskOutput, read_probabilities
from ensemble.files.submission import ANSWER, match, read_codes, read_columns, read_ground_truth
from ensemble.joint import numeric_borders
from ensemble.report.load.evaluation import Evaluation, NumericLabel
from ensemble.report.load.runs import TrainingRun, find_task_runs, read_run, validation_temperature
from heads.config.task import Label

ROWS_SUM = 1e-3  # tolerance: half precision rounds the sum of a row to about this
EDITED = 0.01  # share of answers that may have been changed by hand
TASK_CLASSES = "/classes"  # the end of their names in probabilities.npz
Borders = Mapping[str, Mapping[str, Sequence[float]]]  # of tasks, by the column that they are cut from


class OtherTasksError(InputError):
    """The probabilities of a submission are of none of the tasks that it would be scored as."""


def load_evaluation(
    labels: Mapping[str, Label],
    submission: Path,
    answers: Path,
    *,
    probabilities: Path | None = None,
    people: Path | None = None,
    runs: Path | None = None,
    compare: Sequence[Path] = (),
) -> tuple[Evaluation, list[TrainingRun], list[str]]:
    """Load all files of a report: (evaluation, runs, notes on data that is missing or contradictory).

    Args:
        labels: of each task of the joint code, the most significant digit first.
        submission: CSV of ImageID and ans.
        answers: the ground truth, likewise, or the labels by name (`ensemble.files.submission`).
        probabilities: of the heads; None for the file beside the submission, if it has the same answers.
        people: CSV of ImageID, person and numbers such as age; they take precedence over columns of `answers`.
        runs: folder of the heads' runs.
        compare: further submissions.

    Raises:
        InputError: files that cannot be read, do not match, are the same file, or are of other tasks.
    """
    tasks = {task: label.classes for task, label in labels.items()}
    right = read_ground_truth(answers, labels)
    ids, truth = right[ID].tolist(), right[ANSWER].to_numpy(np.int64)
    submissions = {}
    for path in dict.fromkeys([submission, *compare]):
        given = read_codes(path, prod(map(len, tasks.values())))
        if path.samefile(answers):
            raise InputError(f"{path}: given both as submission and as answers, expected two files")
        submissions[printable(path)] = match(given, right, (str(path), str(answers)))[1]
    persons, numbers, notes = _read_metadata(people, answers, ids, numeric_borders(labels))
    evaluation = Evaluation(tasks, ids, truth, submissions, persons, numbers)
    notes += _contradictions(evaluation)
    outputs, scaled_by, found = _load_outputs(probabilities, submission, evaluation)
    trained, temperatures = [], {}
    if runs is not None:
        for task in tasks:
            folders = find_task_runs(runs, task)
            trained += [read_run(folder, runs) for folder in folders if folder.config.is_file()]  # `save` writes none
            temperatures[task] = validation_temperature(folders, labels[task])
    evaluation = replace(evaluation, outputs=outputs, output_temperatures=scaled_by, temperatures=temperatures)
    return evaluation, trained, notes + found


def _contradictions(evaluation: Evaluation) -> Iterator[str]:
    """Notes on ground truth of another class than a numeric label, such as codes of other tasks."""
    for number in evaluation.numbers:
        known = ~np.isnan(number.value)
        for task, borders in number.task_borders.items():
            other = evaluation.true_classes[task] != np.searchsorted(borders, number.value, side="right")
            if count := int((other & known).sum()):
                text = f"{count} of {known.sum()} answers have another class of {task} than their {number.name}"
                yield f"{text}: are they codes of the tasks of --config?"


def _read_metadata(
    people_file: Path | None, answers: Path, ids: Sequence[str], borders: Borders
) -> tuple[npt.NDArray[np.str_] | None, list[NumericLabel], list[str]]:
    """(person on each image [N] or None, numeric labels, notes), from `--people`, then from the answers."""
    people, notes = [""] * len(ids), []
    numbers: dict[str, NumericLabel] = {}
    for path in filter(None, (people_file, answers)):
        table = read_columns(path, [ID], [*PERSON_COLUMNS, *borders])
        if path == people_file and not table[ID].isin(ids).any():
            raise InputError(f"{path}: none of its {len(table)} images is among the answers; expected the same images")
        column = next((name for name in PERSON_COLUMNS if name in table), None)
        if column is not None and not any(people):
            people = table.set_index(ID)[column].reindex(list(ids)).fillna("").tolist()
            unknown = people.count("")
            if 0 < unknown < len(ids):
                text = f"{unknown} of {len(ids)} images name no person; each counts as a person of its own."
                notes.append(f"{path}: {text}")
        missing = {column: each for column, each in borders.items() if column not in numbers}
        numbers |= {number.name: number for number in _numbers(path, table, ids, missing)}
    # An image without a person is a person of its own; the line break tells it from the names of people.
    marked = [person or f"\n{name}" for person, name in zip(people, ids, strict=True)]
    return np.array(marked, dtype=np.str_) if any(people) else None, list(numbers.values()), notes


def _numbers(path: Path, table: pd.DataFrame, ids: Sequence[str], borders: Borders) -> Iterator[NumericLabel]:
    """The numeric labels in the columns of `table`, in the order of `ids`; InputError for text in any row."""
    problems: list[str] = []
    for column in [column for column in borders if column in table]:
        texts = table[column]
        values = texts.map(_to_float)
        bad = texts[values.isna() & (texts != "")]
        problems += [f"row {line}: {column}={text!r}, expected a number or nothing" for line, text in bad.items()]
        of_images = values.set_axis(table[ID]).reindex(list(ids)).to_numpy(np.float64)
        if not np.isnan(of_images).all():
            yield NumericLabel(column, borders[column], of_images)
    raise_all(f"{path}: bad rows", problems)


def _to_float(text: str) -> float:
    """The finite number that `text` is, or NaN."""
    try:
        value = float(text)
    except ValueError:
        return np.nan
    return value if isfinite(value) else np.nan


def _load_outputs(
    path: Path | None, submission: Path, evaluation: Evaluation
) -> tuple[dict[str, TaskOutput], dict[str, float], list[str]]:
    """Load (probabilities by task, temperatures that they are scaled by, notes).

    They are from the file at `path`, or from the one beside the submission if it fits.

    The file beside a submission may be of another one in the same folder. Nobody asked for it, so what is wrong
    with it is a note, not an error.
    """
    beside = submission.parent / FILE_NAME
    if path is None and not beside.exists():
        return {}, {}, []
    try:
        outputs, scaled_by, notes = _read_outputs(path or beside, evaluation)
    except InputError as error:
        if path is not None or isinstance(error, OtherTasksError):
            raise
        return {}, {}, [f"{error}: no calibration error."]
    predicted = evaluation.predicted_classes
    shares = {task: (each.probabilities.argmax(axis=1) != predicted[task]).mean() for task, each in outputs.items()}
    if different := [f"{task} {share:.0%}" for task, share in shares.items() if share > EDITED]:
        note = f"{path or beside}: the submission has other answers than these probabilities ({', '.join(different)})."
        if path is None:
            return {}, {}, [f"{note} No calibration error."]
        notes = [*notes, note]
    return outputs, scaled_by, notes


def _read_outputs(path: Path, evaluation: Evaluation) -> tuple[dict[str, TaskOutput], dict[str, float], list[str]]:
    """Read the probabilities by task in the order of the images: (probabilities, their temperatures, notes).

    Raises:
        InputError: other images or classes.
    """
    arrays, ids = read_probabilities(path), evaluation.ids
    if ID not in arrays:
        raise InputError(f"{path}: holds {', '.join(arrays) or 'nothing'}; expected {ID} among them")
    names = pd.Index(arrays[ID].astype(str).ravel())
    if names.has_duplicates or set(names) != set(ids):
        raise InputError(
            f"{path}: its {len(names)} images are not the {len(ids)} of the answers; "
            "expected the probabilities of this submission"
        )
    rows = names.get_indexer(pd.Index(ids))
    missing = [task for task in evaluation.tasks if task not in arrays]
    found = [name.removesuffix(TASK_CLASSES) for name in arrays if name.endswith(TASK_CLASSES)]
    if found and not {*found} & {*evaluation.tasks}:
        raise OtherTasksError(
            f"{path}: holds probabilities of {', '.join(found)}, expected {', '.join(evaluation.tasks)}; "
            "--config names the joint.yaml of the submission's tasks"
        )
    outputs = {}
    for task, classes in evaluation.tasks.items():
        if task in missing:
            continue
        named = arrays.get(task + TASK_CLASSES, np.array(classes)).astype(str).ravel().tolist()
        if named != list(classes):
            raise InputError(f"{path}: {task}: classes {', '.join(named)}; expected {', '.join(classes)}")
        shape, identity = (len(ids), len(classes)), f"{task}/{IDENTITY}"
        outputs[task] = TaskOutput(
            _probabilities(path, task, arrays[task], shape)[rows],
            _probabilities(path, identity, arrays[identity], shape)[rows] if identity in arrays else None,
        )
    scaled_by = {task: arrays[name] for task in outputs if (name := f"{task}/{TEMPERATURE}") in arrays}
    if wrong := [
        task for task, each in scaled_by.items() if each.shape or each.dtype.kind != "f" or not 0 < each < np.inf
    ]:
        raise InputError(f"{path}: {TEMPERATURE} of {', '.join(wrong)}: expected one number above 0")
    return (
        outputs,
        {task: float(each) for task, each in scaled_by.items()},
        [f"{path}: no probabilities of {', '.join(missing)}."] if missing else [],
    )


def _probabilities(path: Path, name: str, values: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """`values` as float32; InputError unless they are probabilities [N, C] of this shape."""
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name}: holds {values.dtype}, expected numbers")
    if values.shape != shape:
        raise InputError(f"{path}: {name}: shape {values.shape}, expected {shape}")
    values = values.astype(np.float32)
    if not ((values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=ROWS_SUM)):
        raise InputError(f"{path}: {name}: expected probabilities from 0 to 1 whose rows sum to 1")
    return values
