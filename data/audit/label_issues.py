"""Labels that heads disbelieve on people they were not trained on, ranked by cleanlab (Northcutt et al. 2021,
doi:10.1613/jair.1.12125).
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from data.annotations.corrections import image_names
from data.runtime.errors import InputError

NEEDED = ("person", "path", "shot", "column", "borders", "folds", "classes", "truth", "probabilities")


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """What a task's heads said of images whose people they were not trained on.

    Attributes:
        column: of the label.
        classes: names [C].
        borders: where a number is cut into the classes; empty for a label of names.
        folds: into how many the people were split; `found` of them are here.
        found: number of folds whose predictions are here.
        rows: person, path, shot (empty for none) and image (its name in corrections, as
            `data.annotations.corrections.image_names` has it; empty where the shot says enough) of each [N].
        truth: class indices [N], the labels as they stand.
        probabilities: [N, C].
        expected: the predicted number [N] where the head predicts one, else None.
    """

    column: str
    classes: list[str]
    borders: list[float]
    folds: int
    found: int
    rows: pd.DataFrame
    truth: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64] | None


def read_folds(files: Sequence[Path]) -> OutOfFoldPredictions:
    """Join the validation.npz files of one task's folds.

    Raises:
        InputError: a file that cannot be read or lacks something, folds of other classes, or an image that
            two folds validate on, so that one of them was trained on it.
    """
    parts = [read_validation(path) for path in files]
    for path, part in zip(files, parts, strict=True):
        if not str(part["column"]):
            raise InputError(f"{path}: is of a joint label, expected a head of one label")
    first = parts[0]
    for path, part in zip(files, parts, strict=True):
        for key in ("column", "classes", "borders", "folds"):
            if part[key].tolist() != first[key].tolist():
                its, wanted = part[key].tolist(), first[key].tolist()
                raise InputError(f"{path}: {key} is {its}, expected {wanted} as in {files[0]}")
    rows = pd.concat([pd.DataFrame({k: part[k] for k in ("person", "path", "shot")}) for part in parts])
    rows = rows.reset_index(drop=True)
    shared = rows.duplicated(["person", "shot"], keep=False) | (rows["shot"] == "")
    rows["photograph"] = np.where(shared, image_names(rows["person"].tolist(), rows["path"].tolist()), "")
    twice = rows["path"][rows["path"].duplicated()]
    if len(twice):
        raise InputError(
            f"{files[0].parent.parent}: {len(twice)} images are validated on by two folds, such as "
            f"{twice.iloc[0]}; expected folds of one split, trained on the same data"
        )
    return OutOfFoldPredictions(
        column=str(first["column"]),
        classes=first["classes"].astype(str).tolist(),
        borders=first["borders"].tolist(),
        folds=int(first["folds"]),
        found=len(parts),
        rows=rows,
        truth=np.concatenate([part["truth"] for part in parts]),
        probabilities=np.concatenate([part["probabilities"] for part in parts]).astype(np.float64),
        # Some folds may have been trained over numbers and others over classes: then there are none.
        expected=np.concatenate([part["expected"] for part in parts])
        if all("expected" in part for part in parts)
        else None,
    )


def is_joint(files: Sequence[Path]) -> bool:
    """Whether the validation.npz files are all of a joint label, which no column of the data holds.

    Raises:
        InputError: a file that cannot be read or lacks something.
    """
    return all(not str(read_validation(path)["column"]) for path in files)


def average_by_person(predictions: OutOfFoldPredictions) -> OutOfFoldPredictions:
    """The predictions averaged over each person's images, if the label is one of people, else as they are.

    A label is of people where nobody's images differ in it and somebody has several. The mean over a
    person's images is far surer than any one of them.
    """
    people = predictions.rows["person"]
    codes, names = pd.factorize(people)
    one_each = len(set(zip(codes, predictions.truth.tolist(), strict=True))) == len(names)
    if not one_each or len(names) == len(people):
        return predictions
    counts = np.bincount(codes)
    first = np.unique(codes, return_index=True)[1]
    mean = np.stack([np.bincount(codes, weights=each) / counts for each in predictions.probabilities.T], axis=1)
    expected = predictions.expected
    return OutOfFoldPredictions(
        predictions.column,
        predictions.classes,
        predictions.borders,
        predictions.folds,
        predictions.found,
        predictions.rows.iloc[first].assign(shot="", image="").reset_index(drop=True),
        predictions.truth[first],
        mean,
        None if expected is None else np.bincount(codes, weights=expected) / counts,
    )


def rank_labels(predictions: OutOfFoldPredictions) -> pd.DataFrame:
    """Every label, the least believed first.

    Returns one row per label (a person's, or an image's): `person`, `column`, `value` (what the heads would
    say), `shot` and `photograph` (both empty for all of a person's, else they say which one), as a
    corrections file has them, then `found` (the class as it stands), `suggested` (the class), `quality`
    (cleanlab's label quality score, 0 to 1, 0 is worst), `issue` (yes where cleanlab takes the label for wrong)
    and `path` (an image).
    """
    truth, probabilities = (
        predictions.truth,
        predictions.probabilities / predictions.probabilities.sum(axis=1, keepdims=True),
    )
    quality = get_label_quality_scores(truth, probabilities, method="normalized_margin")
    classes = np.array(predictions.classes)
    answers = probabilities.argmax(axis=1)
    # cleanlab cannot count the errors between classes of which one is not there.
    whole = len(np.unique(truth)) == len(classes)
    issues = find_label_issues(truth, probabilities, n_jobs=1) if whole else answers != truth
    table = pd.DataFrame(
        {
            "person": predictions.rows["person"],
            "column": predictions.column,
            "value": _values(predictions, answers),
            "shot": predictions.rows["shot"],
            "photograph": predictions.rows["photograph"],
            "found": classes[truth],
            "suggested": classes[answers],
            "quality": quality,
            "issue": np.where(issues, "yes", "no"),
            "path": predictions.rows["path"],
        }
    )
    return table.sort_values(["quality", "person", "shot", "photograph"], kind="stable").reset_index(drop=True)


def disagreements(predictions: OutOfFoldPredictions) -> pd.DataFrame:
    """People whose images the heads do not agree on, the most divided first; for a label of people.

    Returns `person`, `column`, `found` (the class as it stands), `answers` (how many images for which
    class) and `divided`: 1 minus the share of the commonest answer. No rows for a label of images.
    """
    names = ["person", "column", "found", "answers", "divided"]
    if average_by_person(predictions) is predictions:
        return pd.DataFrame(columns=names)
    classes = np.array(predictions.classes)
    said = pd.DataFrame(
        {
            "person": predictions.rows["person"],
            "found": classes[predictions.truth],
            "said": classes[predictions.probabilities.argmax(axis=1)],
        }
    )
    rows = []
    for person, each in said.groupby("person", sort=True):
        counts = each["said"].value_counts()
        if len(counts) > 1:
            told = ", ".join(f"{name} {number}" for name, number in counts.items())
            divided = 1 - counts.iloc[0] / counts.sum()
            rows.append([person, predictions.column, each["found"].iloc[0], told, divided])
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values("divided", ascending=False, kind="stable").reset_index(drop=True)


def _values(predictions: OutOfFoldPredictions, answers: npt.NDArray[np.int64]) -> list[str]:
    """What a correction would write [N]: the class, or for a number the predicted one within the class."""
    if not predictions.borders:
        return [predictions.classes[answer] for answer in answers]
    if predictions.expected is None:
        return [""] * len(answers)  # classes alone tell no number: who corrects has to
    edges = np.array([-np.inf, *predictions.borders, np.inf])
    # The whole numbers of a class: its borders may lie between two.
    least, beyond = np.ceil(edges[answers]), np.ceil(edges[answers + 1])
    within = np.clip(np.round(predictions.expected), least, beyond - 1)
    return [f"{value:.0f}" for value in within]


def read_validation(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of a run's validation.npz (those of `NEEDED`, and some heads' more).

    Raises:
        InputError: it cannot be read, or lacks one.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({error}), expected the validation.npz of a run") from None
    lacking = [name for name in NEEDED if name not in arrays]
    if lacking:
        raise InputError(f"{path}: lacks {', '.join(lacking)}; train anew: train_task.py writes them")
    return arrays
