"""From files to an `Evaluation`: submissions, answers, people, the heads' probabilities, runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.listing import ID
from data.runtime.errors import InputError, printable
from ensemble.config import numeric_borders
from ensemble.files.ground_truth import read_ground_truth
from ensemble.files.predictions import FILE_NAME, read_arrays
from ensemble.files.submission import ANSWER, match, read_answers
from ensemble.joint import decode
from ensemble.report.load.evaluation import Codes, Evaluation, HeadOutput, Number
from ensemble.report.load.metadata import read_numbers, read_people, read_table
from ensemble.report.load.runs import TrainingRun, find_task_runs, read_run, validation_temperature
from heads.config.label import Label

ROWS_SUM = 1e-3  # half precision rounds a row's sum to about this
FEW = 0.01  # of answers may have been mended by hand


@dataclass(frozen=True)
class EvaluationFiles:
    """The files of a report.

    Attributes:
        submission: a CSV file of ImageID and ans.
        answers: the right ones, likewise, or the labels by name (`ensemble.files.ground_truth`).
        probabilities: the heads', or None for those beside the submission if its answers are theirs.
        people: a CSV of ImageID, person and numbers such as age, which go before such columns of the answers.
        runs: the folder of the heads' runs, or None.
        compare: further submissions.
    """

    submission: Path
    answers: Path
    probabilities: Path | None = None
    people: Path | None = None
    runs: Path | None = None
    compare: Sequence[Path] = ()


def load_evaluation(
    sources: EvaluationFiles, labels: Mapping[str, Label]
) -> tuple[Evaluation, list[TrainingRun], list[str]]:
    """Read all files of a report: (what they say, the runs, notes on what could not be used).

    Args:
        sources: the files.
        labels: of each task of the joint code, the most significant first (`ensemble.config.load_labels`).

    Raises:
        InputError: files that cannot be read, do not match, or are one and the same.
    """
    notes: list[str] = []
    tasks = {task: label.classes for task, label in labels.items()}
    truth, submissions, ids = _answers(sources, labels)
    people, numbers = _known(sources, ids, numeric_borders(labels), notes)
    notes += _contradictions(tasks, truth, numbers)
    heads, told = _probabilities(sources, ids, tasks, submissions[printable(sources.submission)])
    notes += told
    runs, temperatures = [], {}
    if sources.runs is not None:
        for task in tasks:
            found = find_task_runs(sources.runs, task)
            runs += [read_run(run, str(run.folder.relative_to(sources.runs))) for run in found]
            temperatures[task] = validation_temperature(found)
    evaluation = Evaluation(tasks, ids, truth, submissions, people, numbers, heads, temperatures)
    return evaluation, runs, notes


def _answers(
    sources: EvaluationFiles, labels: Mapping[str, Label]
) -> tuple[Codes, dict[str, Codes], list[str]]:
    right = read_ground_truth(sources.answers, labels)
    submissions, classes = {}, prod(len(label.classes) for label in labels.values())
    truth = right[ANSWER].to_numpy(np.int64)
    for path in dict.fromkeys([sources.submission, *sources.compare]):
        given = read_answers(path, classes)
        if path.samefile(sources.answers):
            raise InputError(f"{path}: given both as submission and as answers, expected two files")
        submissions[printable(path)] = match(given, right, (str(path), str(sources.answers)))[1]
    return truth, submissions, right[ID].tolist()


def _contradictions(
    tasks: Mapping[str, Sequence[str]], truth: Codes, numbers: Sequence[Number]
) -> Iterator[str]:
    """Notes on right answers of another class than a known number says, such as codes of other tasks."""
    digits = dict(zip(tasks, decode(truth, list(map(len, tasks.values()))), strict=True))
    for number in numbers:
        known = ~np.isnan(number.measured)
        for task, borders in number.cuts.items():
            others = digits[task] != np.searchsorted(borders, number.measured, side="right")
            if count := int((others & known).sum()):
                told = f"{count} of {known.sum()} right answers are of another class of {task} than their"
                yield f"{told} {number.name} says: are they codes of the tasks of --config?"


def _known(
    sources: EvaluationFiles,
    ids: Sequence[str],
    cuts: Mapping[str, Mapping[str, Sequence[float]]],
    notes: list[str],
) -> tuple[npt.NDArray[np.str_] | None, list[Number]]:
    """(who each image shows [N], numbers): columns of `--people`, those that it lacks of the answers."""
    people: npt.NDArray[np.str_] | None = None
    numbers: dict[str, Number] = {}
    for path in filter(None, (sources.people, sources.answers)):
        table = read_table(path, cuts)
        if path == sources.people and not table[ID].isin(ids).any():
            raise InputError(
                f"{path}: none of its {len(table)} images is among the answers; expected the same images"
            )
        if people is None:
            people, unknown = read_people(table, ids)
            if people is not None and unknown:
                told = f"{unknown} of {len(ids)} images name no person; each counts as one's own."
                notes.append(f"{path}: {told}")
        missing = {column: borders for column, borders in cuts.items() if column not in numbers}
        numbers |= {number.name: number for number in read_numbers(path, table, ids, missing)}
    return people, list(numbers.values())


def _probabilities(
    sources: EvaluationFiles, ids: Sequence[str], tasks: Mapping[str, Sequence[str]], given: Codes
) -> tuple[dict[str, HeadOutput], list[str]]:
    """(what the heads said, notes): of the file asked for, or of the one beside the submission if it fits.

    A folder has one such file whatever its submissions are called: nobody asked for it, so that what is wrong
    with it is a note, and it has to give the answers `given` [N].
    """
    if sources.probabilities is not None:
        heads, notes = _heads(sources.probabilities, ids, tasks)
        other = _different_answers(heads, tasks, given)
        return heads, notes + [f"{sources.probabilities}: {told}" for told in other]
    beside = sources.submission.parent / FILE_NAME
    if not beside.exists():
        return {}, []
    try:
        heads, notes = _heads(beside, ids, tasks)
    except InputError as error:
        return {}, [f"{error}: no calibration error."]
    other = _different_answers(heads, tasks, given)
    if other:
        return {}, [f"{beside}: {told} No calibration error." for told in other]
    return heads, notes


def _different_answers(
    heads: Mapping[str, HeadOutput], tasks: Mapping[str, Sequence[str]], given: Codes
) -> list[str]:
    """What to tell where the heads' likeliest classes are not the submission's; nothing where they are."""
    digits = dict(zip(tasks, decode(given, [len(names) for names in tasks.values()]), strict=True))
    shares = {task: float((head.merged.argmax(axis=1) != digits[task]).mean()) for task, head in heads.items()}
    other = [f"{task} {share:.0%}" for task, share in shares.items() if share > FEW]
    return [f"the submission answers otherwise than these probabilities ({', '.join(other)})."] if other else []


def _heads(
    path: Path, ids: Sequence[str], tasks: Mapping[str, Sequence[str]]
) -> tuple[dict[str, HeadOutput], list[str]]:
    """(each task's probabilities in the order of `ids`, notes).

    Raises:
        InputError: the file cannot be read, or is of other images or classes.
    """
    arrays = read_arrays(path)
    if ID not in arrays:
        raise InputError(f"{path}: holds {', '.join(arrays) or 'nothing'}; expected {ID} among them")
    places = pd.Index(arrays[ID].astype(str))
    if places.has_duplicates or set(places) != set(ids):
        raise InputError(
            f"{path}: its {len(places)} images are not the {len(ids)} of the answers; "
            "expected the probabilities of this submission"
        )
    order = places.get_indexer(pd.Index(ids))
    without = [task for task in tasks if task not in arrays]
    heads = {}
    for task, names in tasks.items():
        if task in without:
            continue
        try:
            heads[task] = _head(arrays, task, names, order)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
    return heads, [f"{path}: no probabilities of {', '.join(without)}."] if without else []


def _head(
    arrays: Mapping[str, Any], task: str, names: Sequence[str], order: npt.NDArray[np.intp]
) -> HeadOutput:
    held = arrays[f"{task}/classes"].astype(str).tolist() if f"{task}/classes" in arrays else list(names)
    if held != list(names):
        raise ValueError(f"{task}: classes {', '.join(held)}; expected {', '.join(names)}")
    found = {}
    for name in (task, f"{task}/identity"):
        if name not in arrays:
            continue
        if arrays[name].shape != (len(order), len(names)):
            raise ValueError(f"{name}: shape {arrays[name].shape}, expected ({len(order)}, {len(names)})")
        found[name] = arrays[name][order].astype(np.float32)
        sums = found[name].sum(axis=1)
        if not ((found[name] >= 0).all() and np.allclose(sums, 1, atol=ROWS_SUM)):
            raise ValueError(f"{name}: expected probabilities from 0 to 1 whose rows sum to 1")
    return HeadOutput(found[task], found.get(f"{task}/identity"))
