"""Images that no head of the joint code was trained on, and what the heads make of them in all views."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from data.runtime.errors import InputError, printable
from ensemble.files.predictions import read_arrays
from ensemble.inference.predictor import Result, Task, concat_outputs
from ensemble.inference.thresholds import Pair

# Rounding or another JPEG scale changes fewer answers than this; other images or crops change more.
SAME_ANSWERS = 0.9
REMEDY = "give --margin, or --views all"

Predict = Callable[[Mapping[str, Task], Sequence[Path]], Iterator[Result]]


@dataclass(frozen=True)
class ValidationImages:
    """Images in the validation of every task.

    Attributes:
        said: for each task and each of its heads, probabilities [N, C] with the images' paths as index.
        groups: paths, by the heads that were not trained on them: for each task their places among its heads.
    """

    said: Mapping[str, Sequence[pd.DataFrame]]
    groups: Mapping[tuple[tuple[int, ...], ...], Sequence[str]]

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))


def find_validation_images(files: Mapping[str, Sequence[Path]]) -> ValidationImages:
    """The images in every task's validation, from its heads' validation.npz.

    Raises:
        InputError: a file or an image is not there, or the tasks share no image.
    """
    said = {task: [_read_validation(file) for file in its] for task, its in files.items()}
    known = [{path for table in tables for path in table.index} for tables in said.values()]
    groups: dict[tuple[tuple[int, ...], ...], list[str]] = {}
    for path in sorted(set.intersection(*known)):
        places = [[place for place, table in enumerate(its) if path in table.index] for its in said.values()]
        groups.setdefault(tuple(map(tuple, places)), []).append(path)
    paths = [path for each in groups.values() for path in each]
    if not paths:
        raise InputError(f"{', '.join(said)}: no image is in the validation of all of them; {REMEDY}")
    absent = [path for path in paths if not Path(path).is_file()]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(paths)} validation images are not there, such as {printable(absent[0])}: "
            f"margins are chosen on them; put them back where training read them, {REMEDY}"
        )
    return ValidationImages(said, groups)


def predict_validation(
    validated: ValidationImages, tasks: Mapping[str, Task], predict: Predict
) -> dict[str, Pair]:
    """Each task's probabilities [N, C] of the images: all views merged, and the identity view.

    Of several folds' heads an image is printable to those that were not trained on it.

    Raises:
        InputError: the heads answer otherwise than they did in training: these are not the same images.
    """
    found = []
    for places, paths in validated.groups.items():
        theirs = {
            name: replace(task, heads=[task.heads[place] for place in mine])
            for (name, task), mine in zip(tasks.items(), places, strict=True)
        }
        results = predict(theirs, [Path(path) for path in paths])
        batches = list(tqdm(results, "margins", disable=None, unit="batch"))
        said = {name: concat_outputs([batch[name] for batch in batches]) for name in theirs}
        for name, mine in zip(theirs, places, strict=True):
            before = np.mean(
                [validated.said[name][place].reindex(list(paths)).to_numpy() for place in mine], axis=0
            )
            _check_agreement(name, said[name].identity, before)
        found.append(said)
    return {name: concat_outputs([said[name] for said in found])[:2] for name in tasks}


def _read_validation(file: Path) -> pd.DataFrame:
    """What a head said of its validation images: probabilities, with absolute paths as index."""
    if not file.is_file():
        raise InputError(f"{file}: not there, but margins are chosen on what it lists; {REMEDY}")
    arrays = read_arrays(file)
    shapes = [np.shape(arrays.get(name, 0)) for name in ("path", "probabilities")]
    if [len(shape) for shape in shapes] != [1, 2] or shapes[0][0] != shapes[1][0]:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{file}: holds {found}; expected path [N] and probabilities [N, C]; {REMEDY}")
    paths = [os.path.abspath(path) for path in arrays["path"].tolist()]  # noqa: PTH100 (links stay)
    table = pd.DataFrame(arrays["probabilities"], index=paths)
    return table[~table.index.duplicated()]


def _check_agreement(task: str, identity: npt.NDArray[np.floating], before: npt.NDArray[np.floating]) -> None:
    same = float((identity.argmax(axis=1) == before.argmax(axis=1)).mean())
    if same < SAME_ANSWERS:
        raise InputError(
            f"{task}: {same:.0%} of its answers to its validation images are those of its training, "
            f"expected {SAME_ANSWERS:.0%}: they changed since, or are cropped otherwise; {REMEDY}"
        )
