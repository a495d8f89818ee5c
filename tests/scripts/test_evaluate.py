import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score

import evaluate
from ensemble import Ensemble
from ensemble.files.submission import write_submission
from ensemble.joint import decode, joint_probabilities
from ensemble.metrics.scores import score_joint
from evaluate import parse_args
from heads.run.folder import run_folder
from tests.conftest import Outcome

TASKS = {"mask": ["wear", "incorrect", "normal"], "gender": ["male", "female"]}
TASKS |= {"age": ["under 30", "30 to 59", "60 and over"]}


class Case:
    """A folder with a submission, answers and probabilities of 40 images."""

    def __init__(self, folder: Path, call: Callable[..., Outcome]) -> None:
        generator = np.random.default_rng(0)
        self.folder, self.call, self.out = folder, call, folder / "out"
        self.ids = [f"{number}.jpg" for number in range(40)]
        self.truth = generator.integers(0, 18, 40)
        heads = {name: generator.dirichlet(np.ones(len(names)), 40) for name, names in TASKS.items()}
        self.predicted = joint_probabilities(list(heads.values())).argmax(axis=1)
        self.submission, self.answers = folder / "submission.csv", folder / "answers.csv"
        write_submission(self.submission, self.ids, self.predicted)
        write_submission(self.answers, self.ids[::-1], self.truth[::-1])
        np.savez(folder / "heads.npz", ImageID=np.array(self.ids), **heads)

    def run(self, *more: object) -> Outcome:
        return self.call(evaluate, "--answers", self.answers, "--out", self.out, *more)

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.out / "metrics.json").read_text())


@pytest.fixture
def case(tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.chdir(Path(__file__).parents[2])
    return Case(tmp_path, call)


def test_metrics_are_those_of_the_codes_and_each_format_is_written_where_asked_for(case: Case) -> None:
    other = case.folder / "b.csv"
    write_submission(other, case.ids[::-1], case.truth[::-1])
    outcome = case.run("--compare", case.submission, other)
    assert (outcome.code, outcome.err) == (0, "")
    found = case.metrics()
    for part, scores in score_joint(case.truth, case.predicted, TASKS).items():
        assert found[part].items() >= scores.items()
    [difference] = found["findings"]["comparison"]["differences"]
    assert difference["joint"]["accuracy"]["value"] == pytest.approx(found["joint"]["accuracy"] - 1)
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["mask", "gender", "age", "joint"]
    assert "{:.3f} to {:.3f}".format(*found["joint"]["macro_f1_interval"]) in lines[4]
    assert f"{case.submission} minus {other}: joint macro F1 -" in outcome.out
    assert f"They disagree on {len(found['findings']['comparison']['disagree'])} images." in lines
    assert {path.name for path in case.out.iterdir()} == {"metrics.json", "report.html"}
    case.out = case.folder / "other"
    assert case.run("--submission", case.submission, "--format", "md").code == 0
    assert [path.name for path in case.out.iterdir()] == ["report.md"]


def test_answers_by_name_people_probabilities_and_images_are_used(case: Case) -> None:
    table = pd.DataFrame({"ImageID": case.ids, "person": [name[0] for name in case.ids]})
    table.to_csv(case.folder / "people.csv", index=False)
    mask, gender, age = decode(case.truth, (3, 2, 3))
    names = {task: np.array(TASKS[task])[codes] for task, codes in (("mask", mask), ("gender", gender))}
    table.assign(**names, age=np.array([25, 59, 60])[age]).to_csv(case.answers, index=False)
    for name in case.ids:
        Image.new("RGB", (8, 8), (200, 0, 0)).save(case.folder / name)
    options = ["--images", case.folder, "--wrong", 2, "--probabilities", case.folder / "heads.npz"]
    outcome = case.run("--submission", case.submission, "--people", case.folder / "people.csv", *options)
    assert (outcome.code, outcome.err) == (0, "")
    found = case.metrics()
    assert found["joint"]["accuracy"] == pytest.approx((case.truth == case.predicted).mean())
    assert found["findings"]["resampled_by"] == "person"
    assert found["findings"]["calibration"].keys() == TASKS.keys()
    sampled = min(12, (case.truth == case.predicted).sum()) + 12
    assert (case.out / "report.html").read_text().count('<img src="data:image/') == sampled + 2


def test_validation_scores_are_scikit_learns_of_the_saved_predictions(
    case: Case, runs: Path, configs: Path, faces: Path
) -> None:
    given = ["--runs", runs, "--config", configs / "joint.yaml", "--out", case.out]
    given += ["--images", faces / "train/images", "--wrong", 3]
    outcome = case.call(evaluate, "--validation", *given)
    assert outcome.code == 0, outcome.err
    saved = [np.load(run_folder(runs, task).validation) for task in TASKS]
    assert all((each["path"] == saved[0]["path"]).all() for each in saved)
    weights = np.array([6, 3, 1])
    truth = weights @ [each["truth"] for each in saved]
    answers = weights @ [each["probabilities"].argmax(axis=1) for each in saved]
    expected = f1_score(truth, answers, labels=range(18), average="macro", zero_division=0)
    assert case.metrics()["joint"]["macro_f1"] == pytest.approx(expected)
    assert case.metrics()["findings"]["resampled_by"] == "person"
    assert f"{len(truth)} images of " in outcome.out
    assert 3 <= (case.out / "report.html").read_text().count('alt="map of ') <= 9


def test_saved_heads_say_the_tasks_and_their_temperatures(case: Case, runs: Path) -> None:
    model = Ensemble.load(runs)
    Ensemble({name: model.tasks[name] for name in ("age", "mask")}).save(case.folder / "saved")
    ages, masks = case.truth % 3, case.truth // 6
    write_submission(case.submission, case.ids, ages * 3 + masks)
    write_submission(case.answers, case.ids, ages * 3 + masks)
    probabilities = {"age": np.eye(3)[ages], "mask": np.eye(3)[masks]}
    np.savez(case.folder / "heads.npz", ImageID=np.array(case.ids), **probabilities)
    given = ("--submission", case.submission, "--probabilities", case.folder / "heads.npz")
    outcome = case.run(*given, "--runs", case.folder / "saved")
    assert (outcome.code, outcome.err) == (0, "")
    found = case.metrics()
    assert (found["joint"]["classes"][0]["name"], found["joint"]["accuracy"]) == ("under 30 / wear", 1)


def test_files_that_cannot_be_scored_or_written_end_with_exit_code_2(case: Case) -> None:
    outcome = case.run("--submission", case.answers)
    assert (outcome.code, case.out.exists()) == (2, False)
    assert "given both as submission and as answers" in outcome.err
    outcome = case.run("--submission", case.submission, "--out", case.submission, "--format", "json")
    assert outcome.code == 2
    assert re.search(f"error: {case.submission}: .*expected a place to write to", outcome.err)


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_args(["--submission", "a/s.csv", "--answers", "b.csv"]).out == Path("a")
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", "/out")
    monkeypatch.setenv("SM_GROUND_TRUTH_DIR", "/truth")
    flags = ["--submission", "s.csv", "--answers", "b.csv", "--out", "o"]
    for given, expected in (([], ("/out/submission.csv", "/truth/answers.csv", "/out")), (flags, flags[1::2])):
        options = parse_args(given)
        assert [options.submission, options.answers, options.out] == [Path(path) for path in expected]
    options = parse_args(["--compare", "a/s.csv", "b/s.csv"])  # no third submission from the environment
    assert (options.submission, options.out) == (Path("a/s.csv"), Path("/out"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected --submission, or two files for --compare, or --validation"),
        (["--submission", "a.csv"], "required: --answers"),
        (["--validation"], "--validation: expected --runs DIR"),
        (["--validation", "--runs", "r", "--compare", "a", "--people", "b"], "expected no --compare, --people"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, message, call) -> None:
    outcome = call(evaluate, *given)
    assert outcome.code == 2
    assert message in outcome.err
