"""A report of validation is of the images that all heads were validated on, each by its own fold."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

import evaluate
from data.runtime.errors import InputError
from ensemble.config import load_labels
from ensemble.report.load.validation import load_validation
from heads.config.task import Label
from heads.run.folder import run_folder, write_arrays
from tests.conftest import Outcome


@pytest.fixture
def labels(configs: Path) -> dict[str, Label]:
    return load_labels(configs / "joint.yaml")


def saved(runs: Path, task: str) -> dict[str, np.ndarray]:
    with np.load(run_folder(runs, task).validation) as arrays:
        return dict(arrays)


def test_the_scores_are_scikit_learn_s_of_what_the_runs_kept(
    runs: Path, configs: Path, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    outcome = call(
        evaluate, "--validation", "--runs", runs, "--config", configs / "joint.yaml", "--out", tmp_path
    )
    assert outcome.code == 0, outcome.err
    kept = {task: saved(runs, task) for task in ("mask", "gender", "age")}
    paths = sorted(set.intersection(*(set(arrays["path"].tolist()) for arrays in kept.values())))
    digits = {"truth": [], "answer": []}
    for arrays in kept.values():
        places = [arrays["path"].tolist().index(path) for path in paths]
        digits["truth"].append(arrays["truth"][places])
        digits["answer"].append(arrays["probabilities"][places].argmax(axis=1))
    truth, answer = (mask * 6 + gender * 3 + age for mask, gender, age in digits.values())
    found = json.loads((tmp_path / "metrics.json").read_text())
    expected = f1_score(truth, answer, labels=range(18), average="macro", zero_division=0)
    assert found["joint"]["macro_f1"] == pytest.approx(expected)
    assert found["findings"]["resampled_by"] == "person"
    assert f"{len(paths)} images of " in outcome.out
    assert {file.name for file in tmp_path.iterdir()} == {"metrics.json", "report.html"}


def test_folds_are_laid_together(runs: Path, labels: dict[str, Label], tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    whole, _, _ = load_validation(tmp_path / "runs", labels)
    arrays = saved(runs, "age")
    half = len(arrays["path"]) // 2
    for fold, mine in enumerate((slice(0, half), slice(half, None))):
        run = run_folder(tmp_path / "runs", "age", fold)
        shutil.copytree(run_folder(runs, "age").folder, run.folder)
        short = {
            name: array[mine] if array.shape[:1] == arrays["path"].shape else array
            for name, array in arrays.items()
        }
        write_arrays(run.validation, short)
    folds, told, _ = load_validation(tmp_path / "runs", labels)
    assert folds.ids == whole.ids
    assert folds.predicted.tolist() == whole.predicted.tolist()
    assert folds.truth.tolist() == whole.truth.tolist()
    assert [run.name for run in told] == ["mask", "gender", "age/fold-0", "age/fold-1"]
    write_arrays(run_folder(tmp_path / "runs", "age", 1).validation, arrays)
    with pytest.raises(InputError, match=f"age: {half} of them, such as "):
        load_validation(tmp_path / "runs", labels)


def test_numbers_are_those_of_the_label(runs: Path, labels: dict[str, Label]) -> None:
    evaluation, _, _ = load_validation(runs, labels)
    [number] = evaluation.numbers
    assert (number.name, number.cuts) == ("age", {"age": [30, 60]})
    ages = np.digitize(number.measured, [30, 60])
    assert ages.tolist() == (evaluation.truth % 3).tolist()


def test_heads_that_share_nothing_or_are_of_another_label_are_refused(
    runs: Path, labels: dict[str, Label], tmp_path: Path
) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    file = run_folder(tmp_path / "runs", "gender").validation
    arrays = saved(runs, "gender")
    write_arrays(file, arrays | {"path": np.array([f"/elsewhere{path}" for path in arrays["path"]])})
    with pytest.raises(InputError, match="no image is in the validation of mask, gender, age alike"):
        load_validation(tmp_path / "runs", labels)
    write_arrays(file, arrays | {"classes": np.array(["female", "male"])})
    told = r"found the classes \['female', 'male'\], expected \['male', 'female'\]"
    with pytest.raises(InputError, match=told):
        load_validation(tmp_path / "runs", labels)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            ["--runs", "r", "--answers", "a.csv"],
            "--validation takes what the heads said in training, expected no --answers",
        ),
        (["--runs", "r", "--compare", "a.csv", "--people", "b.csv"], "expected no --compare, --people"),
        ([], "--validation: expected --runs DIR"),
    ],
)
def test_options_that_do_not_go_with_it_are_refused(
    given: list[str], told: str, call: Callable[..., Outcome]
) -> None:
    outcome = call(evaluate, "--validation", *given)
    assert outcome.code == 2
    assert told in outcome.err
