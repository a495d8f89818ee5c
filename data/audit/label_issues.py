"""Labels that out-of-fold predictions contradict, ranked by cleanlab.

Northcutt et al. 2021, doi:10.1613/jair.1.12125.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from data.audit.predictions import OutOfFoldPredictions

PRINTED = 10
SAME_LABEL = 0.9  # share of the people with several images that have one label on all, from which it is the person's


def average_by_person(predictions: OutOfFoldPredictions) -> OutOfFoldPredictions:
    """Average the predictions over each person's images if the label is the person's, and not the image's.

    It is the person's if at least `SAME_LABEL` of the people with several images have the same on all of them: a few
    wrong labels do not change that, while the challenge's masks differ between everybody's images. The mean over a
    person's images is much more reliable than any one of them. Returns one row per person, and one per image of those
    whose labels differ, so that the wrong one is found. Otherwise predictions are returned as they are.
    """
    person = predictions.rows["person"].to_numpy()
    first, several = ~pd.Series(person).duplicated(), pd.Series(person).duplicated(keep=False)
    same = pd.Series(predictions.truth).groupby(person).transform("nunique") == 1
    if not several.any() or same[first & several].mean() < SAME_LABEL:
        return predictions
    chosen = first | ~same
    rows = predictions.rows.copy()
    rows.loc[same, ["shot", "photograph"]] = ""
    means = pd.DataFrame(predictions.probabilities).groupby(person).transform("mean")
    expected = None
    if predictions.expected is not None:
        expected = pd.Series(predictions.expected).groupby(person).transform("mean")[chosen].to_numpy()
    return replace(
        predictions,
        rows=rows[chosen].reset_index(drop=True),
        truth=predictions.truth[chosen],
        probabilities=means[chosen].to_numpy(),
        expected=expected,
    )


def rank_labels(predictions: OutOfFoldPredictions) -> pd.DataFrame:
    """Rank all labels, the least plausible first.

    Returns one row per label (a person's, or an image's): `person`, `column`, `value` (the predicted label), `shot` and
    `photograph` (both empty for all of a person's images, else they identify one), as a corrections file has them, then
    `found` (the class in the data), `suggested` (the predicted class), `quality` (cleanlab's label quality score, 0 to
    1, 0 is worst), `issue` (yes where cleanlab considers the label wrong) and `path` (an image).
    """
    truth, rows = predictions.truth, predictions.rows
    probabilities = predictions.probabilities / predictions.probabilities.sum(axis=1, keepdims=True)
    classes = np.array(predictions.classes)
    answers = probabilities.argmax(axis=1)
    # cleanlab cannot count the errors between classes if one of them is absent.
    complete = len(np.unique(truth)) == len(classes)
    issues = find_label_issues(truth, probabilities, n_jobs=1) if complete else answers != truth
    table = pd.DataFrame(
        {
            "person": rows["person"],
            "column": predictions.column,
            "value": _values(predictions, answers),
            "shot": rows["shot"],
            "photograph": rows["photograph"],
            "found": classes[truth],
            "suggested": classes[answers],
            "quality": get_label_quality_scores(truth, probabilities, method="normalized_margin"),
            "issue": np.where(issues, "yes", "no"),
            "path": rows["path"],
        }
    )
    return table.sort_values(["quality", "person", "shot", "photograph"], kind="stable").reset_index(drop=True)


def _values(predictions: OutOfFoldPredictions, answers: npt.NDArray[np.int64]) -> list[str]:
    """The values of corrections [N]: the class, or for a number the predicted one within the class."""
    if not predictions.borders:
        return [predictions.classes[answer] for answer in answers]
    if predictions.expected is None:
        return [""] * len(answers)  # classes alone give no number: the reader of the file has to
    edges = np.array([-np.inf, *predictions.borders, np.inf])
    # The whole numbers of a class: its borders may lie between two.
    least, beyond = np.ceil(edges[answers]), np.ceil(edges[answers + 1])
    within = np.clip(np.round(predictions.expected), least, beyond - 1)
    return [f"{value:.0f}" for value in within]


def disagreements(predictions: OutOfFoldPredictions) -> pd.DataFrame:
    """List people whose images are predicted differently, the most divided first; for a label of people.

    Returns `person`, `column`, `found` (the class in the data), `answers` (the number of images for each
    class) and `divided`: 1 minus the share of the commonest answer. No rows for a label of images.
    """
    rows = []
    if average_by_person(predictions) is not predictions:
        classes = np.array(predictions.classes)
        labels = predictions.rows[["person"]].assign(
            found=classes[predictions.truth], answer=classes[predictions.probabilities.argmax(axis=1)]
        )
        for person, each in labels.groupby("person", sort=True):
            counts = each["answer"].value_counts()
            if len(counts) > 1:
                answers = ", ".join(f"{name} {number}" for name, number in counts.items())
                divided = 1 - counts.iloc[0] / counts.sum()
                rows.append([person, predictions.column, each["found"].mode().iloc[0], answers, divided])
    table = pd.DataFrame(rows, columns=["person", "column", "found", "answers", "divided"])
    return table.sort_values("divided", ascending=False, kind="stable").reset_index(drop=True)


def task_summary(task: str, predictions: OutOfFoldPredictions, ranked: pd.DataFrame, divided: pd.DataFrame) -> str:
    """Format a task's label issues as lines for the terminal."""
    issues = ranked[ranked["issue"] == "yes"]
    whole = (ranked[["shot", "photograph"]] == "").all(axis=1)
    what = "people" if whole.all() else "people and images" if whole.any() else "images"
    lines = [f"{task}: {len(issues)} of {len(ranked)} {what} probably have a wrong {predictions.column}"]
    if predictions.found < predictions.folds:
        lines.append(f"  only {predictions.found} of {predictions.folds} folds are there; other people are not ranked")
    for row in issues.head(PRINTED).to_dict("records"):
        who = " ".join(row[name] for name in ("person", "shot", "photograph") if row[name])
        lines.append(f"  {who}: {row['found']}, rather {row['suggested']} (quality {row['quality']:.3f})")
    if len(divided):
        lines.append(f"  {len(divided)} people's images disagree, most of all:")
        most = divided.head(PRINTED).to_dict("records")
        lines += [f"    {row['person']} ({row['found']}): {row['answers']}" for row in most]
    return "\n".join(lines)
