"""Thresholds of `--views adaptive`: chosen on validation images so that joint codes rarely change, saved with the runs.

Each task's threshold is the gap of its two largest probabilities from which the identity view is enough. An image
whose joint code would differ from that of all views costs one of a budget that the tasks share; the budget is spent
where it saves most forward passes. What the thresholds promise is tested on people that they were not chosen on.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import lgamma, log, log1p
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from tqdm import tqdm

from data.audit.validation import read_validation
from data.runtime.errors import InputError, printable
from data.runtime.files import write_text
from ensemble.files.predictions import Predictions, TaskOutput
from ensemble.inference.early_exit import ALL_VIEWS, needs_all_views, probability_gaps
from ensemble.inference.parts import make_key
from ensemble.inference.predictor import Task
from ensemble.joint import argmax

if TYPE_CHECKING:
    import pandas as pd  # functions import it late: saved thresholds need no tables

FILE_NAME = "margins.json"
FORMAT = 1
AGREEMENT = 0.995  # of the joint codes, at least
CONFIDENCE = 0.95
STEPS = 30  # from all views to thresholds that change no code where they are chosen
# Rounding or another JPEG scale changes fewer classes than this; other images or crops change more.
SAME_CLASSES = 0.9
REMEDY = "give --margin, or --views all"

Tasks = Mapping[str, Task]
Predict = Callable[[Tasks, Sequence[str]], Iterable[Predictions]]


class ExitThresholds(BaseModel, frozen=True, strict=True, validate_by_name=True):
    """Thresholds, and their effect on the validation images that they were tested on.

    Attributes:
        margins: threshold by task, see `ensemble.inference.early_exit.needs_all_views`.
        images: their number; no head was trained on their people, and no threshold chosen (but by version 0.1).
        agreement: share of the joint codes that are those of all views.
        passes, all_passes: forward passes per image, on average and with all views.
    """

    margins: dict[str, float]
    images: int = Field(validation_alias="photographs", serialization_alias="photographs")
    agreement: float
    passes: float
    all_passes: float

    def __str__(self) -> str:
        if min(self.margins.values()) >= ALL_VIEWS:
            return (
                f"margins: none, so every image is passed in all views: {self.images} validation images do not ensure "
                f"for fewer that {AGREEMENT:.1%} of the joint codes stay the same"
            )
        margins = ", ".join(f"{task} {margin:.3f}" for task, margin in self.margins.items())
        return (
            f"margins: {margins}; on {self.images} validation images {self.agreement:.2%} of the joint codes are "
            f"those of all views, in {self.passes:.2f} forward passes per image instead of {self.all_passes:g}"
        )


_SAVED = TypeAdapter(dict[str, ExitThresholds])


def load_exit_thresholds(runs: Path, tasks: Tasks, predict: Predict, options: Mapping[str, object]) -> ExitThresholds:
    """Load the thresholds for these heads from `runs`, or choose them now and save them there.

    Saved thresholds are used for the same heads (by checksum), views and options only; `options` are whatever else
    changes predictions. Arguments and errors are those of `choose_exit_thresholds`.
    """
    views = {name: [*task.views, task.merge] for name, task in tasks.items()}
    key = make_key(
        {name: task.checksums for name, task in tasks.items()},
        {**options, "views": views, "margins": (FORMAT, AGREEMENT)},
    )
    file = runs / FILE_NAME
    try:
        saved = _SAVED.validate_json(file.read_bytes())
    except (OSError, ValidationError):  # a missing or damaged file is written anew
        saved = {}
    if key not in saved:
        saved[key] = choose_exit_thresholds(tasks, predict)
        try:
            write_text(file, _SAVED.dump_json(saved, indent=2, by_alias=True).decode() + "\n")
        except OSError as error:
            print(f"{file}: cannot be written ({error.strerror}): the next run chooses margins again", file=sys.stderr)
    return saved[key]


@contextmanager
def _python_strings() -> Iterator[None]:
    """Let pandas use Python's strings: Arrow's hold no names that are not UTF-8."""
    import pandas as pd

    with pd.option_context("mode.string_storage", "python"):
        yield


@_python_strings()
def choose_exit_thresholds(tasks: Tasks, predict: Predict) -> ExitThresholds:
    """Choose thresholds on the validation images that all tasks share.

    Args:
        tasks: by name, their heads loaded from files; validation.npz is beside each.
        predict: predicts images with some of the heads, in all views.

    Raises:
        InputError: a validation.npz or an image is missing, the tasks share no image, or the heads predict other
            classes than in training: these are not the same images.
    """
    predicted = {
        name: [_read_probabilities(head.run.validation) for head in task.heads] for name, task in tasks.items()
    }
    groups = _group_images(predicted)
    people = {k: v for tables in predicted.values() for table in tables for k, v in table["person"].items()}
    test_rows = hold_out([people[path] for group in groups.values() for path in group])
    further = {name: (len(task.views) - 1) * len(task.heads) for name, task in tasks.items()}
    passes = float(sum(len(task.views) * len(task.heads) for task in tasks.values()))
    images = int(test_rows.sum())
    margins, agreement, saved = dict.fromkeys(tasks, ALL_VIEWS), 1.0, 0.0
    if allowed_disagreements(images) >= 0:
        outputs = _predict_validation(tasks, predicted, groups, predict).tasks
        margins = choose_thresholds_with_test(outputs, further, test_rows)
        outputs = _select_rows(outputs, test_rows)
        agreement = 1 - count_disagreements(outputs, margins) / images
        shares = {name: needs_all_views(each.first_view(), margins[name]).mean() for name, each in outputs.items()}
        saved = float(sum(further[name] * (1 - share) for name, share in shares.items()))
    return ExitThresholds(margins=margins, images=images, agreement=agreement, passes=passes - saved, all_passes=passes)


def hold_out(people: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Select images [N] to test thresholds on, by the person on each: two thirds of the people, always the same."""
    digests = [hashlib.sha256(person.encode("utf-8", "surrogateescape")).digest() for person in people]
    return np.array([int.from_bytes(digest) % 3 > 0 for digest in digests], dtype=np.bool_)


def choose_thresholds_with_test(
    outputs: Mapping[str, TaskOutput], further_passes: Mapping[str, int], test_rows: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Choose thresholds on some images, and test on the others that `AGREEMENT` holds for new images at `CONFIDENCE`.

    Thresholds from 1 down to those of a budget of 0, then those of 1, 2, ... are tested in this order until the first
    failure; the last ones before it are returned. Such a sequence of tests needs no correction for their number
    (Angelopoulos et al. 2021, arXiv:2110.01052: fixed-sequence testing).

    Args:
        outputs: of each task for the same N images.
        further_passes: forward passes of each task beyond its first view.
        test_rows: the images [N] to test on.
    """
    here, there = (_select_rows(outputs, rows) for rows in (~test_rows, test_rows))
    budgets = range(int((~test_rows).sum() * (1 - AGREEMENT)) + 1)
    greedy = [choose_thresholds(here, further_passes, budget) for budget in budgets]
    shares = np.arange(1, STEPS) / STEPS
    careful = [{task: 1 - share * (1 - each) for task, each in greedy[0].items()} for share in shares.tolist()]
    chosen, allowed = dict.fromkeys(outputs, ALL_VIEWS), allowed_disagreements(int(test_rows.sum()))
    for candidate in careful + greedy:
        if count_disagreements(there, candidate) > allowed:
            break
        chosen = candidate
    return chosen


def allowed_disagreements(images: int, agreement: float = AGREEMENT) -> int:
    """Count how many of so many images may have another joint code, so that `agreement` holds for new images as well.

    That is, the one-sided Clopper-Pearson bound (1934, doi:10.1093/biomet/26.4.404) on the share that differs is
    within 1 - `agreement` at `CONFIDENCE`, images taken to be independent. -1: too few images for any.

    >>> allowed_disagreements(597), allowed_disagreements(598), allowed_disagreements(2600)
    (-1, 0, 6)
    """
    share, few = 1 - agreement, range(int(images * (1 - agreement)) + 1)
    # The binomial distribution in logarithms: its terms underflow where images are many.
    ways = [lgamma(images + 1) - lgamma(n + 1) - lgamma(images - n + 1) for n in few]
    logs = [way + n * log(share) + (images - n) * log1p(-share) for n, way in zip(few, ways, strict=True)]
    return int((np.exp(logs).cumsum() <= 1 - CONFIDENCE).sum()) - 1


def choose_thresholds(
    outputs: Mapping[str, TaskOutput], further_passes: Mapping[str, int], disagreements: int
) -> dict[str, float]:
    """Choose each task's threshold (see `needs_all_views`), so that at most `disagreements` joint codes differ.

    Greedy: of all steps down any task's thresholds that the budget still allows, take the one that saves most forward
    passes for each code that it changes, until none is left. A code that several tasks change counts once.

    Args:
        outputs: of each task for the same N images.
        further_passes: forward passes of each task beyond its first view.
        disagreements: the budget, 0 or more.
    """
    thresholds, saved, changed = {}, {}, {}
    for task, output in outputs.items():
        identity = output.first_view()
        gaps = probability_gaps(identity)
        rows = np.flatnonzero(identity.argmax(axis=1) != output.probabilities.argmax(axis=1))
        changed[task] = rows[np.argsort(-gaps[rows], kind="stable")]
        # From the one at which no class changes, just above the gap of the next image that would, down to 0.
        steps = np.minimum(np.append(np.nextafter(gaps[changed[task]], np.inf), 0.0), ALL_VIEWS)
        thresholds[task] = steps
        saved[task] = np.array([further_passes[task] * (~needs_all_views(identity, each)).sum() for each in steps])
    chosen = dict.fromkeys(outputs, 0)  # by task: position among its thresholds, and number of its changed codes
    while True:
        best: tuple[float, str, int] | None = None
        for task, here in chosen.items():
            others = [changed[name][:count] for name, count in chosen.items() if name != task]
            elsewhere = np.unique(np.concatenate([*others, np.empty(0, dtype=np.intp)]))
            # Joint codes that differ at each of this task's thresholds, the other tasks left where they are.
            spent = len(elsewhere) + np.append(0, (~np.isin(changed[task], elsewhere)).cumsum())
            gain = saved[task] - saved[task][here]
            reachable = (spent <= disagreements) & (gain > 0)
            if reachable.any():
                # A step that costs nothing comes before all that cost something.
                worth = np.where(reachable, gain / np.maximum(spent - spent[here], 1e-9), -1.0)
                step = int(worth.argmax())
                if best is None or worth[step] > best[0]:
                    best = float(worth[step]), task, step
        if best is None:
            return {task: float(thresholds[task][here]) for task, here in chosen.items()}
        chosen[best[1]] = best[2]


def count_disagreements(outputs: Mapping[str, TaskOutput], thresholds: Mapping[str, float]) -> int:
    """Count the images whose joint code with `thresholds` is not that of all views."""
    codes = argmax([each.probabilities for each in outputs.values()])
    return int((argmax(exit_early(outputs, thresholds)) != codes).sum())


def exit_early(outputs: Mapping[str, TaskOutput], thresholds: Mapping[str, float]) -> list[npt.NDArray[np.float32]]:
    """Probabilities [N, C] of each task with further views only for images that need them."""
    more = {task: needs_all_views(each.first_view(), thresholds[task]) for task, each in outputs.items()}
    return [np.where(more[task][:, None], each.probabilities, each.first_view()) for task, each in outputs.items()]


def _select_rows(outputs: Mapping[str, TaskOutput], rows: npt.NDArray[np.bool_]) -> dict[str, TaskOutput]:
    fields = {task: [None if array is None else array[rows] for array in each] for task, each in outputs.items()}
    return {task: TaskOutput(*each) for task, each in fields.items()}  # type: ignore[arg-type]


def _read_probabilities(file: Path) -> "pd.DataFrame":
    """Read a head's probabilities of its validation images and the persons on them; the index is absolute paths."""
    import pandas as pd

    if not file.is_file():
        raise InputError(f"{file}: not there, but margins are chosen on the images that it lists; {REMEDY}")
    arrays = read_validation(file)
    paths = [os.path.abspath(path) for path in arrays["path"].tolist()]  # noqa: PTH100 (links stay)
    table = pd.DataFrame(arrays["probabilities"], index=paths).assign(person=arrays["person"].astype(str))
    return table[~table.index.duplicated()]


Heads = tuple[tuple[int, ...], ...]  # for each task, positions among its heads


def _group_images(predicted: "Mapping[str, Sequence[pd.DataFrame]]") -> dict[Heads, list[str]]:
    """Group the images in every task's validation by the heads that were not trained on them."""
    groups: dict[Heads, list[str]] = {}
    for path in sorted({path for tables in predicted.values() for table in tables for path in table.index}):
        held_out = tuple(
            tuple(place for place, table in enumerate(tables) if path in table.index) for tables in predicted.values()
        )
        if all(held_out):
            groups.setdefault(held_out, []).append(path)
    paths = [path for group in groups.values() for path in group]
    if not paths:
        raise InputError(f"{', '.join(predicted)}: no image is in the validation of all of them; {REMEDY}")
    absent = [path for path in paths if not Path(path).is_file()]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(paths)} validation images are not there, such as {printable(absent[0])}: "
            f"margins are chosen on them; put them back where training read them, {REMEDY}"
        )
    return groups


def _predict_validation(
    tasks: Tasks,
    predicted: "Mapping[str, Sequence[pd.DataFrame]]",
    groups: Mapping[Heads, Sequence[str]],
    predict: Predict,
) -> Predictions:
    """Predict the images, each with the folds' heads that were not trained on it."""
    found = []
    for held_out, paths in groups.items():
        heads = dict(zip(predicted, held_out, strict=True))
        subset = {
            name: replace(task, heads=[task.heads[place] for place in heads[name]], temperature=1.0)
            for name, task in tasks.items()
        }
        batches = tqdm(predict(subset, paths), "margins", disable=None, unit="batch")
        found.append(Predictions.concat(list(batches)))
        for name, output in found[-1].tasks.items():
            tables = [predicted[name][place].loc[list(paths)] for place in heads[name]]
            before = np.mean([table.drop(columns="person") for table in tables], axis=0)
            same = float((output.first_view().argmax(axis=1) == before.argmax(axis=1)).mean())
            if same < SAME_CLASSES:
                raise InputError(
                    f"{name}: {same:.0%} of its classes on its validation images are those of training, expected at "
                    f"least {SAME_CLASSES:.0%}: the images changed since, or are cropped otherwise; {REMEDY}"
                )
    return Predictions.concat(found)
