import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluate
from ensemble.files.submission import write_submission
from ensemble.joint import class_names, joint_probabilities
from ensemble.metrics.scores import score_joint
from ensemble.report.render.terminal import score_table
from evaluate import parse_args
from tests.conftest import Outcome

ROOT = Path(__file__).parents[2]
TASKS = {
    "mask": ["wear", "incorrect", "normal"],
    "gender": ["male", "female"],
    "age": ["under 30", "30 to 59", "60 and over"],
}
CODES = len(class_names(TASKS))


@pytest.fixture(autouse=True)
def _no_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SM_OUTPUT_DATA_DIR", raising=False)
    monkeypatch.delenv("SM_GROUND_TRUTH_DIR", raising=False)


class Case:
    """A folder with a submission, answers and probabilities of 40 images."""

    def __init__(self, folder: Path) -> None:
        generator = np.random.default_rng(0)
        self.ids = [f"{number}.jpg" for number in range(40)]
        self.truth = generator.integers(0, CODES, 40)
        self.heads = {
            name: generator.dirichlet(np.ones(len(names)), 40).astype(np.float32)
            for name, names in TASKS.items()
        }
        self.predicted = joint_probabilities(list(self.heads.values())).argmax(axis=1)
        self.folder = folder
        self.submission, self.answers = folder / "submission.csv", folder / "truth" / "answers.csv"
        write_submission(self.submission, self.ids, self.predicted)
        write_submission(self.answers, self.ids[::-1], self.truth[::-1])

    def arguments(self, *more: object) -> list[object]:
        return ["--submission", self.submission, "--answers", self.answers, *more]

    def write_probabilities(self, path: Path | None = None, **changes) -> None:
        arrays = {"ImageID": np.array(self.ids), **self.heads}
        arrays |= {f"{name}/identity": head[::-1] for name, head in self.heads.items()}
        arrays |= {f"{name}/classes": np.array(names) for name, names in TASKS.items()}
        np.savez(path or self.folder / "probabilities.npz", **(arrays | changes))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_metrics_are_those_of_the_codes_and_the_report_is_there(
    case: Case, call: Callable[..., Outcome]
) -> None:
    out = case.folder / "out"
    outcome = call(evaluate, *case.arguments("--out", out))
    assert (outcome.code, outcome.err) == (0, "")
    read = json.loads((out / "metrics.json").read_text())
    for part, figures in score_joint(case.truth, case.predicted, TASKS).items():
        assert read[part].items() >= figures.items()
    assert (
        f"<strong>{read['joint']['macro_f1']:.3f}</strong> joint macro F1" in (out / "report.html").read_text()
    )
    assert f"report.html: {out / 'report.html'}" in outcome.out
    assert {path.name for path in out.iterdir()} == {"metrics.json", "report.html"}


@pytest.mark.parametrize(
    ("asked", "name"), [("json", "metrics.json"), ("html", "report.html"), ("md", "report.md")]
)
def test_a_format_alone_is_written_alone_and_the_table_is_printed(
    case: Case, call: Callable[..., Outcome], asked: str, name: str
) -> None:
    outcome = call(evaluate, *case.arguments("--out", case.folder / "out", "--format", asked))
    assert [path.name for path in (case.folder / "out").iterdir()] == [name]
    assert outcome.out.splitlines()[0].split() == ["macro", "F1", "95", "%", "interval", "accuracy"]


def test_submissions_are_compared_with_the_first_as_the_reports_own(
    case: Case, call: Callable[..., Outcome]
) -> None:
    other = case.folder / "other" / "b.csv"
    write_submission(other, case.ids[::-1], case.truth[::-1])
    outcome = call(evaluate, "--compare", case.submission, other, "--answers", case.answers)
    assert outcome.code == 0
    found = json.loads((case.folder / "metrics.json").read_text())
    assert found["joint"]["accuracy"] == pytest.approx((case.truth == case.predicted).mean())
    [difference] = found["findings"]["comparison"]["differences"]
    assert difference["joint"]["accuracy"]["value"] == pytest.approx(found["joint"]["accuracy"] - 1)
    wrong = {name for name, a, b in zip(case.ids, case.truth, case.predicted, strict=True) if a != b}
    assert set(found["findings"]["comparison"]["disagree"]) == wrong
    assert f"{case.submission} minus {other}: joint macro F1 -" in outcome.out


def test_people_and_years_come_from_a_table_of_their_own(case: Case, call: Callable[..., Outcome]) -> None:
    people = case.folder / "people.csv"
    lines = [f"{name},p{place // 4},{20 + place}" for place, name in enumerate(case.ids)]
    people.write_text("\n".join(["ImageID,person,age", *lines]))
    assert call(evaluate, *case.arguments("--people", people)).code == 0
    found = json.loads((case.folder / "metrics.json").read_text())["findings"]
    assert found["resampled_by"] == "person"
    assert sum(group["count"] for group in found["numbers"]["age"] if "age" in group["parts"]) == 40


def test_answers_by_name_are_scored_as_their_codes(case: Case, call: Callable[..., Outcome]) -> None:
    ages = {"under 30": 25, "30 to 59": 59, "60 and over": 60}
    lines = []
    for name, code in zip(case.ids, case.truth, strict=True):
        mask, gender, age = class_names(TASKS)[code].split(" / ")
        lines.append(f"{name},{mask},{gender},{ages[age]}")
    by_name = case.folder / "labels.csv"
    by_name.write_text("\n".join(["ImageID,mask,gender,age", *lines]))
    found = {}
    for answers in (case.answers, by_name):
        out = case.folder / answers.stem
        outcome = call(evaluate, "--submission", case.submission, "--answers", answers, "--out", out)
        assert outcome.code == 0, outcome.err
        found[answers] = json.loads((out / "metrics.json").read_text())
    assert found[by_name]["joint"]["macro_f1"] == found[case.answers]["joint"]["macro_f1"]
    assert found[by_name]["age"]["confusion"] == found[case.answers]["age"]["confusion"]
    by_name.write_text(by_name.read_text().replace(",59", ",fifty", 1))
    outcome = call(evaluate, "--submission", case.submission, "--answers", by_name)
    assert outcome.code == 2
    assert f"{by_name}: row " in outcome.err
    assert "found 'fifty', expected a number" in outcome.err


def test_images_probabilities_and_how_many_are_listed_are_what_was_asked_for(
    case: Case, call: Callable[..., Outcome]
) -> None:
    (case.folder / "images").mkdir()
    for name in case.ids:
        Image.new("RGB", (8, 8), (200, 0, 0)).save(case.folder / "images" / name)
    case.write_probabilities(case.folder / "elsewhere.npz")
    options = (
        "--images",
        case.folder / "images",
        "--wrong",
        2,
        "--probabilities",
        case.folder / "elsewhere.npz",
    )
    assert call(evaluate, *case.arguments("--out", case.folder / "out", *options)).code == 0
    page = (case.folder / "out" / "report.html").read_text()
    assert len(re.findall(r'<img[^>]* src="data:image/', page)) == 2
    assert json.loads((case.folder / "out" / "metrics.json").read_text())["findings"]["calibration"].keys() == {
        *TASKS
    }
    outcome = call(evaluate, *case.arguments("--runs", case.folder / "images"))
    assert outcome.code == 2
    assert "mask" in outcome.err


def test_answers_out_of_range_doubled_and_unknown_images_are_told_with_their_rows(
    case: Case, call: Callable[..., Outcome]
) -> None:
    lines = case.submission.read_text().splitlines()
    for changed, told in (
        ([lines[0], "0.jpg,18", *lines[2:]], "row 2: ans='18', expected a whole number from 0 to 17"),
        ([*lines, lines[3]], "rows 4, 42: ImageID='2.jpg' is there 2 times, expected once"),
        ([*lines, "x.jpg,0"], "lacks 1 of the 41 images of"),
        ([*lines, "x.jpg,0"], "x.jpg (row 42)"),
        (lines[:-1], "lacks 1 of the 40 images of"),
    ):
        case.submission.write_text("\n".join(changed))
        outcome = call(evaluate, *case.arguments())
        assert (outcome.code, outcome.out) == (2, "")
        assert told in outcome.err
    assert not (case.folder / "metrics.json").exists()


def test_answers_cannot_be_scored_against_themselves(case: Case, call: Callable[..., Outcome]) -> None:
    outcome = call(evaluate, "--submission", case.answers, "--answers", case.answers)
    assert outcome.code == 2
    assert "given both as submission and as answers" in outcome.err


def test_an_output_that_is_a_file_is_told(case: Case, call: Callable[..., Outcome]) -> None:
    outcome = call(evaluate, *case.arguments("--out", case.submission))
    assert outcome.code == 2
    assert "cannot be written" in outcome.err


def test_the_table_tells_what_the_answers_lack() -> None:
    table = score_table(score_joint(np.array([0, 0, 6]), np.array([0, 0, 6]), TASKS)).splitlines()
    assert [line.split()[0] for line in table[1:5]] == ["mask", "gender", "age", "joint"]
    assert table[4].split() == ["joint", "0.111", "1.000"]
    assert "3 images" in table
    assert "mask: no image of 1 of 3 classes, each counted as F1 0 in the macro F1: normal" in table
    assert any(line.startswith("joint: no image of 16 of 18 classes") for line in table)


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = parse_args(["--submission", "a/s.csv", "--answers", "b.csv"])
    assert (plain.out, plain.config) == (Path("a"), Path("configs/joint.yaml"))
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", "/out")
    monkeypatch.setenv("SM_GROUND_TRUTH_DIR", "/truth")
    platform = parse_args([])
    assert platform.submission == Path("/out/submission.csv")
    assert platform.answers == Path("/truth/answers.csv")
    assert platform.out == Path("/out")
    flags = parse_args(["--submission", "s.csv", "--answers", "b.csv", "--out", "o"])
    assert (flags.submission, flags.answers, flags.out) == (Path("s.csv"), Path("b.csv"), Path("o"))


def test_missing_options_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args([])
    assert caught.value.code == 2
    assert "--answers" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_args(["--answers", "a.csv", "--compare", "b.csv"])
    assert "--submission, or two files for --compare" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, evaluate\n"
        "try: evaluate.parse_args(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'matplotlib', 'torch', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--submission" in done.stdout
    assert time.perf_counter() - start < 5  # 0.05 s when the machine is idle


def test_wrong_input_ends_with_one_message_and_exit_code_2(case: Case) -> None:
    write_submission(case.submission, [*case.ids[1:], "other.jpg"], case.predicted)
    command = [sys.executable, "evaluate.py", "--submission", case.submission, "--answers", case.answers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "lacks 1 of the 40 images" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (case.folder / "metrics.json").exists()
