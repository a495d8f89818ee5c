import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from ensemble.joint import class_names, decode, joint_probabilities
from ensemble.metrics import expected_calibration_error, score_joint
from ensemble.submission import write_submission
from evaluate import evaluate, main, parse_args, summary

ROOT = Path(__file__).parents[1]
TASKS = {
    "mask": ["wear", "incorrect", "normal"],
    "gender": ["male", "female"],
    "age": ["under 30", "30 to 59", "60 and over"],
}
CODES = len(class_names(TASKS))
needs_config = pytest.mark.skipif(
    importlib.util.find_spec("ensemble.config") is None or not (ROOT / "configs/joint.yaml").exists(),
    reason="the tasks are read from configs/joint.yaml",
)


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

    def write_probabilities(self, path: Path | None = None, **changes) -> None:
        arrays = {"ImageID": np.array(self.ids), **self.heads}
        arrays |= {f"{name}/classes": np.array(names) for name, names in TASKS.items()}
        np.savez(path or self.folder / "probabilities.npz", **(arrays | changes))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_metrics_are_those_of_the_codes_and_the_report_is_there(case: Case) -> None:
    out = case.folder / "out"
    scores, notes = evaluate(case.submission, case.answers, out, TASKS)
    assert notes == []
    assert scores == score_joint(case.truth, case.predicted, TASKS)
    assert json.loads((out / "metrics.json").read_text()) == scores
    assert f"{scores['joint']['macro_f1']:.3f}</strong> joint macro F1" in (out / "report.html").read_text()


def test_probabilities_beside_the_submission_give_each_heads_calibration_error(case: Case) -> None:
    case.write_probabilities()
    scores, notes = evaluate(case.submission, case.answers, case.folder, TASKS)
    assert notes == []
    truth = decode(case.truth, [len(names) for names in TASKS.values()])
    for (name, head), digits in zip(case.heads.items(), truth, strict=True):
        expected = expected_calibration_error(head, digits)
        assert scores[name]["expected_calibration_error"] == pytest.approx(expected)
    assert "calibration error" in summary(scores)
    assert "expected_calibration_error" not in scores["joint"]


def test_probabilities_of_other_images_are_passed_over_unless_asked_for(case: Case) -> None:
    case.write_probabilities(ImageID=np.array([f"x{name}" for name in case.ids]))
    scores, notes = evaluate(case.submission, case.answers, case.folder, TASKS)
    assert "expected_calibration_error" not in scores["mask"]
    assert "its 40 images are not the 40 of the answers: no calibration error" in notes[0]
    with pytest.raises(InputError, match="expected the probabilities of this submission"):
        evaluate(case.submission, case.answers, case.folder, TASKS, case.folder / "probabilities.npz")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mask/classes": np.array(["normal", "wear", "incorrect"])}, "mask: classes normal, wear, incorrect"),
        ({"age": np.ones((40, 2)) / 2}, r"age: shape \(40, 2\), expected \(40, 3\)"),
        ({"gender": np.ones((40, 2))}, "gender: expected probabilities from 0 to 1"),
        ({"ImageID": np.array([b"x", None])}, "cannot be read"),
    ],
)
def test_probabilities_that_do_not_fit_are_told(case: Case, changes: dict, told: str) -> None:
    case.write_probabilities(**changes)
    with pytest.raises(InputError, match=told):
        evaluate(case.submission, case.answers, case.folder / "out", TASKS)
    assert not (case.folder / "out").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_broken_probabilities_file_is_told(case: Case, content: bytes) -> None:
    (case.folder / "probabilities.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"probabilities\.npz: cannot be read"):
        evaluate(case.submission, case.answers, case.folder, TASKS)


def test_a_head_without_probabilities_is_told(case: Case) -> None:
    np.savez(case.folder / "probabilities.npz", ImageID=np.array(case.ids), mask=case.heads["mask"])
    scores, notes = evaluate(case.submission, case.answers, case.folder, TASKS)
    assert notes == [f"{case.folder / 'probabilities.npz'}: no probabilities of gender, age."]
    assert "expected_calibration_error" in scores["mask"]


def test_answers_cannot_be_scored_against_themselves(case: Case) -> None:
    with pytest.raises(InputError, match="given both as submission and as answers"):
        evaluate(case.answers, case.answers, case.folder, TASKS)


def test_an_output_that_is_a_file_is_told(case: Case) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        evaluate(case.submission, case.answers, case.submission, TASKS)


def test_the_summary_tells_what_the_answers_lack() -> None:
    table = summary(score_joint(np.array([0, 0, 6]), np.array([0, 0, 6]), TASKS)).splitlines()
    assert [line.split()[0] for line in table[1:5]] == ["mask", "gender", "age", "joint"]
    assert table[4].split() == ["joint", "0.111", "1.000"]
    assert "3 photographs" in table
    assert "mask: no photograph of 1 of 3 classes, each counted as F1 0 in the macro F1: normal" in table
    assert any(line.startswith("joint: no photograph of 16 of 18 classes") for line in table)


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
    assert "--submission, --answers" in capsys.readouterr().err


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


@needs_config
def test_the_script_prints_the_table_and_where_things_lie(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        sys, "argv", ["evaluate.py", "--submission", str(case.submission), "--answers", str(case.answers)]
    )
    main()
    printed = capsys.readouterr().out
    scores = json.loads((case.folder / "metrics.json").read_text())
    assert printed.startswith(summary(scores))
    assert f"report:  {case.folder / 'report.html'}" in printed


@needs_config
def test_wrong_input_ends_with_one_message_and_exit_code_2(case: Case) -> None:
    write_submission(case.submission, [*case.ids[1:], "other.jpg"], case.predicted)
    command = [sys.executable, "evaluate.py", "--submission", case.submission, "--answers", case.answers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "lacks 1 of the 40 images" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (case.folder / "metrics.json").exists()
