"""Labels that heads disbelieve on people they were not trained on, ranked by cleanlab (Northcutt et al. 2021,
doi:10.1613/jair.1.12125).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from data.audit.predictions import OutOfFoldPredictions


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
        predictions.rows.iloc[first].assign(shot="", photograph="").reset_index(drop=True),
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
