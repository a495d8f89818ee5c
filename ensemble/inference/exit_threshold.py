"""The threshold of `--views adaptive`: on validation images joint codes rarely change; saved with the runs.

It is the gap of a head's two largest probabilities from which the identity view is enough, one for all heads: the
smallest one at which few enough of the validation images have another joint code than with all views.
"""

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
from pydantic import BaseModel, TypeAdapter, ValidationError
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
FORMAT = 2
AGREEMENT = 0.995  # of the joint codes, at least
CONFIDENCE = 0.95
# Rounding or another JPEG scale changes fewer classes than this; other images or crops change more.
SAME_CLASSES = 0.9
REMEDY = "give --margin, or --views all"

Tasks = Mapping[str, Task]
Predict = Callable[[Tasks, Sequence[str]], Iterable[Predictions]]


class ExitThreshold(BaseModel, frozen=True, strict=True):
    """The threshold, and its effect on the validation images that it was chosen on.

    Attributes:
        margin: the threshold, see `ensemble.inference.early_exit.needs_all_views`.
        images: their number; no head with further views was trained on their people.
        agreement: share of the joint codes that are those of all views.
        passes, all_passes: forward passes per image, on average and with all views.
    """

    margin: float
    images: int
    agreement: float
    passes: float
    all_passes: float

    def __str__(self) -> str:
        if not self.images:
            return "margin: none, since no head has further views"
        if self.margin >= ALL_VIEWS:
            return (
                f"margin: none, so every image is passed in all views: {self.images} validation images do not ensure "
                f"for fewer that {AGREEMENT:.1%} of the joint codes stay the same"
            )
        return (
            f"margin: {self.margin:.3f}; on {self.images} validation images {self.agreement:.2%} of the joint codes "
            f"are those of all views, in {self.passes:.2f} forward passes per image instead of {self.all_passes:g}"
        )


_SAVED = TypeAdapter(dict[str, ExitThreshold])


def load_exit_threshold(runs: Path, tasks: Tasks, predict: Predict, options: Mapping[str, object]) -> ExitThreshold:
    """Load the threshold for these heads from `runs`, or choose it now and save it there.

    A saved one is used for the same heads (by checksum), views and options only; `options` are whatever else changes
    predictions. Arguments and errors are those of `choose_exit_threshold`.
    """
    views = {name: [*task.views, task.merge] for name, task in tasks.items()}
    key = make_key(
        {name: task.checksums for name, task in tasks.items()},
        {**options, "views": views, "margin": (FORMAT, AGREEMENT)},
    )
    file = runs / FILE_NAME
    try:
        saved = _SAVED.validate_json(file.read_bytes())
    except (OSError, ValidationError):  # a missing or damaged file is written anew
        saved = {}
    if key not in saved:
        saved[key] = choose_exit_threshold(tasks, predict)
        try:
            write_text(file, _SAVED.dump_json(saved, indent=2).decode() + "\n")
        except OSError as error:
            print(f"{file}: cannot be written ({error.strerror}): the next run chooses again", file=sys.stderr)
    return saved[key]


@contextmanager
def _python_strings() -> Iterator[None]:
    """Let pandas use Python's strings: Arrow's hold no names that are not UTF-8."""
    import pandas as pd

    with pd.option_context("mode.string_storage", "python"):
        yield


@_python_strings()
def choose_exit_threshold(tasks: Tasks, predict: Predict) -> ExitThreshold:
    """Choose the threshold on the validation images that all tasks with further views share.

    A joint code changes only where one of these tasks decides otherwise.

    Args:
        tasks: by name, their heads loaded from files; validation.npz is beside each.
        predict: predicts images with some of the heads, in all views.

    Raises:
        InputError: a validation.npz or an image is missing, the tasks share no image, or the heads predict other
            classes than in training: these are not the same images.
    """
    passes = float(sum(len(task.views) * len(task.heads) for task in tasks.values()))
    several = {name: task for name, task in tasks.items() if len(task.views) > 1}
    if not several:
        return ExitThreshold(margin=0.0, images=0, agreement=1.0, passes=passes, all_passes=passes)
    predicted = {
        name: [_read_probabilities(head.run.validation) for head in task.heads] for name, task in several.items()
    }
    groups = _group_images(predicted)
    images = sum(map(len, groups.values()))
    allowed = allowed_disagreements(images)
    if allowed < 0:
        return ExitThreshold(margin=ALL_VIEWS, images=images, agreement=1.0, passes=passes, all_passes=passes)
    outputs = _predict_validation(several, predicted, groups, predict).tasks
    margin = choose_threshold(outputs, allowed)
    decided = {name: 1 - needs_all_views(each.first_view(), margin).mean() for name, each in outputs.items()}
    saved = sum((len(task.views) - 1) * len(task.heads) * decided[name] for name, task in several.items())
    agreement = 1 - count_disagreements(outputs, margin) / images
    return ExitThreshold(
        margin=margin, images=images, agreement=agreement, passes=passes - float(saved), all_passes=passes
    )


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


def choose_threshold(outputs: Mapping[str, TaskOutput], disagreements: int) -> float:
    """Choose the smallest threshold (see `needs_all_views`) at which at most `disagreements` joint codes differ.

    The images that it is chosen on also test it: a code that differs at one threshold differs at all smaller ones, so
    this is the last of a fixed sequence of tests from 1 downwards that passes, which needs no correction for their
    number (Angelopoulos et al. 2021, arXiv:2110.01052).

    Args:
        outputs: of each task for the same N images.
        disagreements: how many are allowed, 0 or more.
    """
    # An image's code differs as soon as one of its tasks exits with another class.
    changed = []
    for output in outputs.values():
        identity = output.first_view()
        other = identity.argmax(axis=1) != output.probabilities.argmax(axis=1)
        changed.append(np.where(other, probability_gaps(identity), -1.0))
    gaps = np.sort(np.max(changed, axis=0))[::-1]
    if len(gaps) <= disagreements or gaps[disagreements] < 0:
        return 0.0
    return min(float(np.nextafter(gaps[disagreements], np.inf)), ALL_VIEWS)


def count_disagreements(outputs: Mapping[str, TaskOutput], threshold: float) -> int:
    """Count the images whose joint code with the threshold is not that of all views."""
    codes = argmax([each.probabilities for each in outputs.values()])
    return int((argmax(exit_early(outputs, threshold)) != codes).sum())


def exit_early(outputs: Mapping[str, TaskOutput], threshold: float) -> list[npt.NDArray[np.float32]]:
    """Probabilities [N, C] of each task with further views only for images that need them."""
    more = {task: needs_all_views(each.first_view(), threshold) for task, each in outputs.items()}
    return [np.where(more[task][:, None], each.probabilities, each.first_view()) for task, each in outputs.items()]


def _read_probabilities(file: Path) -> "pd.DataFrame":
    """Read a head's probabilities of its validation images; the index is absolute paths."""
    import pandas as pd

    if not file.is_file():
        raise InputError(f"{file}: not there, but the margin is chosen on the images that it lists; {REMEDY}")
    arrays = read_validation(file)
    paths = [os.path.abspath(path) for path in arrays["path"].tolist()]  # noqa: PTH100 (links stay)
    table = pd.DataFrame(arrays["probabilities"], index=paths)
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
            f"the margin is chosen on them; put them back where training read them, {REMEDY}"
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
        batches = tqdm(predict(subset, paths), "margin", disable=None, unit="batch")
        found.append(Predictions.concat(list(batches)))
        for name, output in found[-1].tasks.items():
            before = np.mean([predicted[name][place].loc[list(paths)] for place in heads[name]], axis=0)
            same = float((output.first_view().argmax(axis=1) == before.argmax(axis=1)).mean())
            if same < SAME_CLASSES:
                raise InputError(
                    f"{name}: {same:.0%} of its classes on its validation images are those of training, expected at "
                    f"least {SAME_CLASSES:.0%}: the images changed since, or are cropped otherwise; {REMEDY}"
                )
    return Predictions.concat(found)
