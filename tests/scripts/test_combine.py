import csv
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

import combine
import evaluate
from bench.held_out import predict_views
from data.runtime.errors import InputError
from ensemble.config import load_tasks
from ensemble.ensemble import load_heads, load_task_heads
from ensemble.files.predictions import FILE_NAME
from ensemble.files.submission import read_answers, write_submission
from ensemble.inference.run import UNSEEN
from ensemble.joint import encode
from heads.config.loader import load_config
from heads.config.task import TaskConfig

ROOT = Path(__file__).parents[2]
Probabilities = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def shuffled(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty of the evaluation's images, listed in no order."""
    folder = tmp_path_factory.mktemp("shuffled")
    (folder / "images").symlink_to(faces / "eval" / "images")
    ids = sorted(path.name for path in (faces / "eval" / "images").iterdir())
    random.Random(0).shuffle(ids)
    (folder / "info.csv").write_text("ImageID,ans\n" + "".join(f"{name},0\n" for name in ids[:20]))
    return folder


@pytest.fixture(scope="module")
def combined(shuffled: Path, runs: Path, configs: Path, call: Callable, tmp_path_factory) -> Path:
    """The folder with what combine.py made of `shuffled`."""
    out = tmp_path_factory.mktemp("combined")
    joint, answers = configs / "joint.yaml", out / "submission.csv"
    outcome = call(
        combine, "--config", joint, "--runs", runs, "--data", shuffled, "--out", answers, "--workers", 0
    )
    assert outcome.code == 0, outcome.err
    return out


@pytest.fixture(scope="module")
def probabilities(combined: Path) -> Probabilities:
    with np.load(combined / "probabilities.npz", allow_pickle=False) as saved:
        return dict(saved)


def listed(path: Path) -> list[str]:
    with path.open() as file:
        return [row["ImageID"] for row in csv.DictReader(file)]


def test_the_submission_is_in_the_order_of_the_listing(
    combined: Path, shuffled: Path, probabilities: Probabilities
) -> None:
    asked = listed(shuffled / "info.csv")
    assert asked != sorted(asked)
    assert listed(combined / "submission.csv") == asked == probabilities["ImageID"].tolist()
    assert (combined / "submission.csv").read_text().startswith("ImageID,ans\n")


def test_the_answers_are_the_joint_code_of_every_head_s_likeliest_class(
    combined: Path, configs: Path, probabilities: Probabilities
) -> None:
    tasks = load_tasks(configs / "joint.yaml")
    digits = [probabilities[task].argmax(axis=1) for task in tasks]
    expected = encode(digits, [len(names) for names in tasks.values()])
    assert read_answers(combined / "submission.csv", 18)["ans"].tolist() == expected.tolist()


def test_probabilities_of_every_head_are_there_with_their_classes(
    configs: Path, probabilities: Probabilities
) -> None:
    for task, names in load_tasks(configs / "joint.yaml").items():
        assert probabilities[f"{task}/classes"].tolist() == names
        for array in (probabilities[task], probabilities[f"{task}/identity"]):
            assert array.dtype == np.float32
            assert array.shape == (20, len(names))
            np.testing.assert_allclose(array.sum(axis=1), 1, atol=1e-5)
        assert (probabilities[task] != probabilities[f"{task}/identity"]).any()


def test_names_tell_every_head_s_likeliest_class(
    shuffled: Path, runs: Path, configs: Path, call: Callable, tmp_path: Path, probabilities: Probabilities
) -> None:
    outcome = call(
        combine,
        *("--config", configs / "joint.yaml", "--runs", runs, "--data", shuffled, "--workers", 0),
        *("--out", tmp_path / "submission.csv", "--names", tmp_path / "names.csv"),
    )
    assert outcome.code == 0, outcome.err
    table = pd.read_csv(tmp_path / "names.csv")
    assert table["ImageID"].tolist() == listed(shuffled / "info.csv")
    for task, classes in load_tasks(configs / "joint.yaml").items():
        assert table[task].tolist() == [classes[place] for place in probabilities[task].argmax(axis=1)]
        assert table[f"{task}_probability"].to_numpy() == pytest.approx(
            probabilities[task].max(axis=1), abs=6e-4
        )
    assert [name for name in table if name.endswith("_number")] == ["age_number"]
    assert table["age_number"].to_numpy() == pytest.approx(probabilities["age/number"], abs=0.06)


def test_the_number_of_an_age_head_is_that_of_its_distribution(
    shuffled: Path, runs: Path, probabilities: Probabilities
) -> None:
    assert "mask/number" not in probabilities
    task = load_task_heads(runs, {"age": None})["age"]
    paths = [shuffled / "images" / name for name in probabilities["ImageID"]]
    expected = predict_views(task, paths, workers=0).expected
    assert probabilities["age/number"].dtype == np.float32
    np.testing.assert_allclose(probabilities["age/number"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--out", "a.csv", "--names", "a.csv"], "--names a.csv is the submission's own file"),
        (["--names", "."], "--names . is a folder, expected a file"),
        (["--out", "unseen.csv"], "--out unseen.csv: unseen.csv goes beside the submission"),
        (
            ["--out", "x/a.csv", "--names", "x/probabilities.npz"],
            "--names x/probabilities.npz: probabilities.npz",
        ),
    ],
)
def test_names_out_of_place_are_refused(given: list[object], told: str, call: Callable[..., Any]) -> None:
    outcome = call(combine, "--data", "anywhere", *given)
    assert outcome.code == 2
    assert told in outcome.err
    assert combine.BESIDE == (FILE_NAME, UNSEEN)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--names", "a.csv", "--vote", "b.csv", "c.csv"], "--names goes with --place here alone"),
        (["--data", "a", "--vote", "b.csv", "c.csv"], "--vote takes submissions alone"),
        (["--views", "adaptive", "--vote", "b.csv", "c.csv"], "--vote takes submissions alone"),
        (["--data", "a", "--parts", "b"], "--parts and --part-rows go with --place ray alone"),
        (["--data", "a", "--part-rows", "9"], "--parts and --part-rows go with --place ray alone"),
        (["--data", "a", "--calibration", "b"], "--calibration goes with --precision int8 alone"),
        (["--data", "a", "--margin", "0.5"], "--margin is from 0 to 1 and goes with --views adaptive"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    given: list[object], told: str, call: Callable[..., Any]
) -> None:
    outcome = call(combine, *given)
    assert outcome.code == 2
    assert told in outcome.err


def test_a_folder_of_images_needs_no_listing(
    shuffled: Path, runs: Path, configs: Path, call: Callable, tmp_path: Path, combined: Path
) -> None:
    (tmp_path / "mine" / "below").mkdir(parents=True)
    first, second = listed(shuffled / "info.csv")[:2]
    for name, file in (("below/z.jpg", first), ("b.jpg", second)):
        shutil.copy(shuffled / "images" / file, tmp_path / "mine" / name)
    (tmp_path / "mine" / "notes.txt").touch()
    (tmp_path / "mine" / "._b.jpg").touch()
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", tmp_path / "mine", "--workers", 0]
    outcome = call(combine, *given, "--out", tmp_path / "submission.csv")
    assert outcome.code == 0, outcome.err
    answers = read_answers(combined / "submission.csv", 18).set_index("ImageID")["ans"]
    mine = read_answers(tmp_path / "submission.csv", 18).set_index("ImageID")["ans"]
    assert mine.to_dict() == {"b.jpg": answers[second], "below/z.jpg": answers[first]}


def test_the_platform_s_variables_and_a_rerun_that_gives_the_same_bytes(
    combined: Path,
    shuffled: Path,
    runs: Path,
    configs: Path,
    call: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SM_CHANNEL_EVAL", str(shuffled))
    monkeypatch.setenv("SM_CHANNEL_MODEL", str(runs))
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", str(tmp_path / "output"))
    outcome = call(combine, "--config", configs / "joint.yaml", "--workers", 0)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "output").iterdir()} == {"submission.csv", "probabilities.npz"}
    for path in (tmp_path / "output").iterdir():
        assert path.read_bytes() == (combined / path.name).read_bytes()


def test_flags_win_over_the_platform_s_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SM_CHANNEL_EVAL", "SM_CHANNEL_MODEL", "SM_OUTPUT_DATA_DIR"):
        monkeypatch.setenv(name, "theirs")
    flags = ["--data", "a", "--runs", "b", "--out", "c/d.csv"]
    with patch.object(sys, "argv", ["combine.py", *flags]):
        args = combine.parse()
    assert (args.data, args.runs, args.out) == (Path("a"), Path("b"), Path("c/d.csv"))


@pytest.fixture
def two_folds(runs: Path, tmp_path: Path) -> Iterator[Path]:
    """Runs in which mask has two folds: one head in two places, and a plain run that must not count."""
    for task in ("mask", "gender", "age"):
        (tmp_path / "runs" / task).mkdir(parents=True)
        (tmp_path / "runs" / task / "best.safetensors").symlink_to(runs / task / "best.safetensors")
    for fold in (0, 1):
        (tmp_path / "runs" / "mask" / f"fold-{fold}").mkdir()
        shutil.copy(runs / "mask" / "best.safetensors", tmp_path / "runs" / "mask" / f"fold-{fold}")
    yield tmp_path / "runs"
    shutil.rmtree(tmp_path / "runs")


def test_the_folds_of_a_head_are_averaged_and_what_they_leave_out_is_told(
    two_folds: Path, configs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = load_heads(configs / "joint.yaml", two_folds)
    assert {task: len(its.heads) for task, its in tasks.items()} == {"mask": 2, "gender": 1, "age": 1}
    told = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    alone = two_folds / "mask" / "best.safetensors"
    assert told == [
        f"{alone}: left out, since folds stand beside it; move either of them to answer by the other"
    ]


def test_a_head_cut_at_other_borders_than_the_config_s_is_refused(
    runs: Path, configs: Path, tmp_path: Path
) -> None:
    for file in configs.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    config = load_config(TaskConfig, tmp_path / "age.yaml", ["label.borders=[25, 60]"])
    (tmp_path / "age.yaml").write_text(config.to_yaml())
    told = r"age/best\.safetensors: found the label\.borders \[30\.0, 60\.0\], expected \[25\.0, 60\.0\]"
    with pytest.raises(InputError, match=told):
        load_heads(tmp_path / "joint.yaml", runs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": {"evaluate": [{"resize": {"height": 48, "width": 36}}]}}, "pixels.evaluate"),
        ({"label": {"classes": ["wear", "normal", "incorrect"]}}, "classes"),
        ({"label": {"column": "wearing"}}, "label.column wearing"),
        ({"views": {"merge": "geometric"}}, "views.merge geometric"),
    ],
)
def test_a_fold_that_does_not_fit_the_others_is_refused(
    changes: dict, message: str, two_folds: Path, configs: Path, shuffled: Path, call: Callable, tmp_path: Path
) -> None:
    from heads.run.checkpoint import load_tensors, save_tensors

    odd = two_folds / "mask" / "fold-1" / "best.safetensors"
    tensors, description = load_tensors(odd)
    for section, keys in changes.items():
        description["config"][section] |= keys
    save_tensors(odd, tensors, description)
    out = tmp_path / "out.csv"
    arguments = ["--runs", two_folds, "--data", shuffled, "--out", out, "--workers", 0]
    outcome = call(combine, "--config", configs / "joint.yaml", *arguments)
    assert outcome.code == 2
    assert f"{odd}: found the {message}" in outcome.err
    assert not out.exists()


def test_votes(configs: Path, call: Callable, tmp_path: Path) -> None:
    ids, given = ["b.jpg", "a.jpg", "c.jpg"], {"x": [5, 1, 2], "y": [5, 3, 4], "z": [0, 3, 6]}
    files = []
    for name, answers in given.items():
        files.append(tmp_path / f"{name}.csv")
        write_submission(files[-1], ids, answers)
    out = tmp_path / "voted.csv"
    outcome = call(combine, "--config", configs / "joint.yaml", "--vote", *files, "--out", out)
    assert outcome.code == 0, outcome.err
    assert out.read_text() == "ImageID,ans\nb.jpg,5\na.jpg,3\nc.jpg,2\n"


def test_all_missing_heads_are_named(
    runs: Path, configs: Path, shuffled: Path, call: Callable, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "gender").mkdir(parents=True)
    (tmp_path / "runs" / "gender" / "best.safetensors").symlink_to(runs / "gender" / "best.safetensors")
    out = tmp_path / "out.csv"
    arguments = ["--runs", tmp_path / "runs", "--data", shuffled, "--out", out]
    outcome = call(combine, "--config", configs / "joint.yaml", *arguments)
    assert outcome.code == 2
    assert "mask: found no mask/best.safetensors" in outcome.err
    assert "age: found no age/best.safetensors" in outcome.err
    assert "gender:" not in outcome.err
    assert not out.exists()


def test_a_cluster_without_its_packages_is_one_line_that_says_what_to_install(
    call: Callable[..., Any], faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ensemble.cluster.actors", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    given = ["--data", faces / "eval", "--parts", tmp_path / "parts"]
    outcome = call(combine, "--place", "ray", *given)
    assert outcome.code == 2
    assert outcome.err == "error: --place ray: ray is not installed; pip install -r requirements-ray.txt\n"
    assert not (tmp_path / "parts").exists()


def test_one_machine_imports_none_of_the_cluster_s_packages() -> None:
    code = "import combine, sys; import ensemble.inference.predictor, ensemble.files.submission, heads.build; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ensemble.inference.predictor" in done.stdout.split()
    assert not {"ray", "s3fs", "ensemble.cluster.actors", "ensemble.cluster.parts"} & set(done.stdout.split())


def test_a_url_is_not_read_by_one_machine(call: Callable[..., Any]) -> None:
    outcome = call(combine, "--data", "s3://faces/eval")
    assert outcome.code == 2
    assert "s3://faces/eval: a URL, expected a folder, or --place ray" in outcome.err


def test_a_cluster_needs_a_place_for_its_parts(call: Callable[..., Any]) -> None:
    outcome = call(combine, "--data", "s3://faces/eval", "--place", "ray")
    assert outcome.code == 2
    assert "expected --parts DIR" in outcome.err


def test_adaptive_views_say_which_images_had_one(
    combined: Path,
    probabilities: Probabilities,
    shuffled: Path,
    runs: Path,
    configs: Path,
    call: Callable[..., Any],
    tmp_path: Path,
) -> None:
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", shuffled, "--workers", 0]
    counts = {}
    for margin in (0, 0.05, 1):
        out = tmp_path / str(margin) / "submission.csv"
        outcome = call(combine, *given, "--out", out, "--views", "adaptive", "--margin", margin)
        assert outcome.code == 0, outcome.err
        assert listed(out) == listed(combined / "submission.csv")
        with np.load(out.parent / "probabilities.npz", allow_pickle=False) as saved:
            found = dict(saved)
        for task in ("mask", "gender", "age"):
            views, identity = found.pop(f"{task}/views"), found[f"{task}/identity"]
            np.testing.assert_array_equal(identity, probabilities[f"{task}/identity"])
            np.testing.assert_array_equal(found[task][views == 1], identity[views == 1])
            np.testing.assert_allclose(found[task][views > 1], probabilities[task][views > 1], atol=1e-5)
            second, first = np.sort(identity, axis=1)[:, -2:].T
            assert ((views == 1) == ((first - second >= margin) & (margin < 1))).all()
            counts[margin, task] = int((views == 1).sum())
        assert found.keys() == probabilities.keys()
        shutil.copy(out, out.with_name("answers.csv"))  # what is right is not at issue
        reported = call(
            *(evaluate, "--config", configs / "joint.yaml", "--submission", out, "--out", out.parent),
            *("--answers", out.with_name("answers.csv")),
        )
        assert reported.code == 0, reported.err
        assert (out.parent / "report.html").is_file()
        expected = encode([found[task].argmax(axis=1) for task in ("mask", "gender", "age")], [3, 2, 3])
        assert read_answers(out, 18)["ans"].tolist() == expected.tolist()
    assert {counts[0, task] for task in ("mask", "gender", "age")} == {20}
    assert {counts[1, task] for task in ("mask", "gender", "age")} == {0}
    assert any(0 < count < 20 for count in counts.values())


def test_margins_are_chosen_and_kept_beside_the_runs(
    two_folds: Path, runs: Path, configs: Path, shuffled: Path, call: Callable[..., Any], tmp_path: Path
) -> None:
    for task in ("mask/fold-0", "gender", "age"):
        shutil.copy(runs / task.split("/")[0] / "validation.npz", two_folds / task)
    given = ["--config", configs / "joint.yaml", "--runs", two_folds, "--data", shuffled, "--workers", 0]
    given += ["--out", tmp_path / "submission.csv", "--views", "adaptive"]
    outcome = call(combine, *given)
    assert outcome.code == 2
    assert "mask/fold-1/validation.npz: not there" in outcome.err
    shutil.copy(two_folds / "mask" / "fold-0" / "validation.npz", two_folds / "mask" / "fold-1")
    outcome = call(combine, *given)
    assert outcome.code == 0, outcome.err
    assert "validation images cannot promise that 99.5% of the answers" in outcome.out
    assert (two_folds / "margins.json").is_file()


@pytest.mark.parametrize("given", [["--margin", 0.5], ["--views", "adaptive", "--margin", 1.5]])
def test_a_margin_out_of_place_is_refused(given: list[object], call: Callable[..., Any]) -> None:
    outcome = call(combine, "--data", "anywhere", *given)
    assert outcome.code == 2
    assert "--margin is from 0 to 1 and goes with --views adaptive" in outcome.err
