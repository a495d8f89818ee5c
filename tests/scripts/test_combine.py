import csv
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

import combine
import evaluate
from data.runtime.errors import InputError
from ensemble import Ensemble, vote
from ensemble.cluster import __main__ as cluster
from ensemble.files.predictions import FILE_NAME, read_probabilities
from ensemble.files.submission import read_codes, write_submission
from ensemble.inference.parts import UNDECODABLE
from ensemble.joint import encode, load_tasks
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.load import load_head
from heads.objective.calibration import scale
from heads.run.checkpoint import load_tensors, save_tensors

TASKS = ("mask", "gender", "age")


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
def options(shuffled: Path, runs: Path, configs: Path) -> list[object]:
    return ["--config", configs / "joint.yaml", "--runs", runs, "--data", shuffled, "--workers", 0]


@pytest.fixture(scope="module")
def combined(options: list[object], call: Callable, tmp_path_factory) -> Path:
    """The folder with what combine.py makes of `shuffled`."""
    out = tmp_path_factory.mktemp("combined")
    outcome = call(combine, *options, "--out", out / "submission.csv", "--names", out / "names.csv")
    assert outcome.code == 0, outcome.err
    return out


@pytest.fixture
def photo(shuffled: Path) -> Path:
    return shuffled / "images" / listed(shuffled / "info.csv")[0]


def listed(path: Path) -> list[str]:
    with path.open() as file:
        return [row["ImageID"] for row in csv.DictReader(file)]


def codes_of(path: Path) -> dict[str, int]:
    return read_codes(path, 18).set_index("ImageID")["ans"].to_dict()


def test_files_agree_and_are_in_the_order_of_the_listing(combined: Path, shuffled: Path, configs: Path) -> None:
    arrays, ids = read_probabilities(combined / FILE_NAME), listed(shuffled / "info.csv")
    assert ids != sorted(ids)
    assert listed(combined / "submission.csv") == ids == arrays["ImageID"].tolist()
    classes = load_tasks(configs / "joint.yaml")
    digits = [arrays[task].argmax(axis=1) for task in classes]
    expected = encode(digits, [len(names) for names in classes.values()])
    assert list(codes_of(combined / "submission.csv").values()) == expected.tolist()
    table = pd.read_csv(combined / "names.csv")
    assert table["ImageID"].tolist() == ids
    assert [name for name in table if name.endswith("_number")] == ["age_number"]
    for task, names in classes.items():
        assert arrays[f"{task}/classes"].tolist() == names
        for array in (arrays[task], arrays[f"{task}/identity"]):
            assert array.dtype == np.float32
            assert array.shape == (20, len(names))
            np.testing.assert_allclose(array.sum(axis=1), 1, atol=1e-5)
        assert (arrays[task] != arrays[f"{task}/identity"]).any()
        assert table[task].tolist() == [names[place] for place in arrays[task].argmax(axis=1)]
        assert table[f"{task}_probability"].to_numpy() == pytest.approx(arrays[task].max(axis=1), abs=6e-4)
    assert "mask/number" not in arrays
    assert table["age_number"].to_numpy() == pytest.approx(arrays["age/number"], abs=0.06)


def test_probabilities_are_calibrated_unless_raw(combined, options, runs, call, tmp_path) -> None:
    raw = options + ["--raw-probabilities", "--out", tmp_path / "submission.csv"]
    outcome = call(combine, *raw)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "submission.csv").read_bytes() == (combined / "submission.csv").read_bytes()
    before, after = (read_probabilities(folder / FILE_NAME) for folder in (tmp_path, combined))
    for task in TASKS:
        temperature = load_head(runs / task / "best.safetensors").temperature
        assert f"{task}/temperature" not in before
        assert after[f"{task}/temperature"] == pytest.approx(temperature)
        assert temperature != 1
        for name in (task, f"{task}/identity"):
            np.testing.assert_allclose(after[name], scale(before[name], temperature), atol=1e-6)


def test_one_image_is_answered_in_the_terminal(combined, options, photo, call, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call(combine, *options, "--data", photo)
    assert outcome.code == 0, outcome.err
    row = pd.read_csv(combined / "names.csv").set_index("ImageID").loc[photo.name]
    code = codes_of(combined / "submission.csv")[photo.name]
    lines = outcome.out.splitlines()[-4:]
    assert lines[0] == f"{photo}: code {code}"
    for line, task in zip(lines[1:], TASKS, strict=True):
        assert line.startswith(f"  {task}: {row[task]} (")
    assert list(tmp_path.iterdir()) == []
    assert call(combine, *options, "--data", photo, "--out", "submission.csv").code == 0
    assert codes_of(tmp_path / "submission.csv") == {str(photo): code}


def test_the_platform_s_variables_and_a_rerun_to_the_same_bytes(combined, options, call, tmp_path, monkeypatch) -> None:
    _, config, _, runs, _, data, *workers = options
    monkeypatch.setenv("SM_CHANNEL_EVAL", str(data))
    monkeypatch.setenv("SM_CHANNEL_MODEL", str(runs))
    monkeypatch.setenv("SM_OUTPUT_DATA_DIR", str(tmp_path / "output"))
    outcome = call(combine, "--config", config, *workers)
    assert outcome.code == 0, outcome.err
    table = [line.split()[:2] for line in outcome.out.splitlines()[-6:]]
    assert table == [line.split(",") for line in (combined / "submission.csv").read_text().splitlines()[:6]]
    assert {path.name for path in (tmp_path / "output").iterdir()} == {"submission.csv", FILE_NAME}
    for path in (tmp_path / "output").iterdir():
        assert path.read_bytes() == (combined / path.name).read_bytes()
    with patch.object(sys, "argv", ["combine.py", "--data", "a", "--runs", "b", "--out", "c/d.csv"]):
        args = combine.parse()
    assert (args.data, args.runs, args.out) == ("a", Path("b"), Path("c/d.csv"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--out", "a.csv", "--names", "a.csv"], "--names a.csv: a.csv goes beside the submission"),
        (["--names", "."], "--names . is a folder, expected a file"),
        (["--out", UNDECODABLE], "--out unseen.csv: unseen.csv goes beside the submission"),
        (["--out", "x/a.csv", "--names", f"x/{FILE_NAME}"], f"--names x/{FILE_NAME}: {FILE_NAME}"),
        (["--calibration", "b"], "--calibration goes with --precision int8"),
        (["--margin", 0.5], "--margin goes with --views adaptive"),
        (["--views", "adaptive", "--margin", 1.5], "--margin: 1.5, expected a number from 0 to 1"),
        (["--views", "adaptive", "--margin", "abc"], "--margin: abc, expected a number from 0 to 1"),
        (["--data", "a.jpg", "--names", "b/../a.jpg"], "--names b/../a.jpg is read from --data, expected another"),
        (["--data", "a", "--out", "a/info.csv"], "--out a/info.csv is read from --data, expected another file"),
        (["--precision", "int8", "--engine", "onnx"], "--precision int8 goes with --engine openvino"),
        (["--data", "s3://faces/eval"], "a URL, expected a folder; python -m ensemble.cluster reads URLs"),
        (["--vote", "b.csv", "c.csv"], "--vote moved to a command of its own: python -m ensemble.vote"),
        (["--parts", "b"], "--parts moved to a command of its own: python -m ensemble.cluster"),
    ],
)
def test_options_that_do_not_fit_are_refused(given: list[object], expected: str, call: Callable) -> None:
    outcome = call(combine, "--data", "anywhere", *given)
    assert outcome.code == 2
    assert expected in outcome.err


@pytest.fixture
def two_folds(runs: Path, tmp_path: Path) -> Path:
    """Runs in which mask has two folds: one head in two places, and a single run that must not count."""
    for task in TASKS:
        (tmp_path / "runs" / task).mkdir(parents=True)
        (tmp_path / "runs" / task / "best.safetensors").symlink_to(runs / task / "best.safetensors")
    for fold in (0, 1):
        (tmp_path / "runs" / "mask" / f"fold-{fold}").mkdir()
        shutil.copy(runs / "mask" / "best.safetensors", tmp_path / "runs" / "mask" / f"fold-{fold}")
    return tmp_path / "runs"


def test_folds_are_averaged_and_a_single_run_beside_them_is_left_out(two_folds, configs, capsys) -> None:
    tasks = Ensemble.load(two_folds, configs / "joint.yaml").tasks
    assert {name: len(task.heads) for name, task in tasks.items()} == {"mask": 2, "gender": 1, "age": 1}
    [warning] = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert warning.startswith(f"{two_folds / 'mask' / 'best.safetensors'}: left out, because there are folds")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": {"evaluate": [{"resize": {"height": 48, "width": 36}}]}}, "pixels.evaluate"),
        ({"label": {"classes": ["wear", "normal", "incorrect"]}}, "label.classes"),
        ({"label": {"column": "wearing"}}, "label.column wearing"),
        ({"views": {"merge": "geometric"}}, "views.merge geometric"),
    ],
)
def test_a_fold_that_does_not_fit_the_others_is_refused(changes, message, two_folds, configs) -> None:
    odd = two_folds / "mask" / "fold-1" / "best.safetensors"
    tensors, description = load_tensors(odd)
    for section, keys in changes.items():
        description["config"][section] |= keys
    save_tensors(odd, tensors, description)
    with pytest.raises(InputError, match=f"{odd}: found the {message}"):
        Ensemble.load(two_folds, configs / "joint.yaml")


def test_heads_that_are_missing_or_have_other_borders_are_refused(runs: Path, configs: Path, tmp_path: Path) -> None:
    for file in configs.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    config = load_config(TaskConfig, tmp_path / "age.yaml", ["label.borders=[25, 60]"])
    (tmp_path / "age.yaml").write_text(config.to_yaml())
    with pytest.raises(InputError, match=r"found the label\.borders \[30\.0, 60\.0\], expected \[25\.0, 60\.0\]"):
        Ensemble.load(runs, tmp_path / "joint.yaml")
    (tmp_path / "runs" / "gender").mkdir(parents=True)
    (tmp_path / "runs" / "gender" / "best.safetensors").symlink_to(runs / "gender" / "best.safetensors")
    with pytest.raises(InputError, match=r"(?s)mask: found no mask/best\.safetensors.*age: found no age") as caught:
        Ensemble.load(tmp_path / "runs", tmp_path / "joint.yaml")
    assert "gender:" not in str(caught.value)


def test_votes(configs: Path, call: Callable, tmp_path: Path) -> None:
    files = []
    for name, codes in {"x": [5, 1, 2], "y": [5, 3, 4], "z": [0, 3, 6]}.items():
        files.append(tmp_path / f"{name}.csv")
        write_submission(files[-1], ["b.jpg", "a.jpg", "c.jpg"], codes)
    outcome = call(vote, "--config", configs / "joint.yaml", *files, "--out", tmp_path / "voted.csv")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "voted.csv").read_text() == "ImageID,ans\nb.jpg,5\na.jpg,3\nc.jpg,2\n"


def test_a_vote_never_replaces_a_submission_that_it_reads(call, tmp_path, monkeypatch) -> None:
    for name in ("submission.csv", "b.csv"):
        write_submission(tmp_path / name, ["a.jpg"], [1])
    (tmp_path / "linked.csv").symlink_to(tmp_path / "b.csv")
    monkeypatch.chdir(tmp_path)
    for out in ([], ["--out", tmp_path / "linked.csv"]):
        outcome = call(vote, "submission.csv", "b.csv", *out)
        assert outcome.code == 2
        assert "is one of the submissions to vote on" in outcome.err


def test_a_cluster_without_its_packages_is_one_line_that_says_what_to_install(
    call: Callable[..., Any], faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ensemble.cluster.actors", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not there
    outcome = call(cluster, "--data", faces / "eval", "--parts", tmp_path / "parts")
    assert outcome.code == 2
    assert outcome.err == "error: ray is not installed; pip install -r requirements-ray.txt\n"
    assert not (tmp_path / "parts").exists()


def test_adaptive_views_record_which_images_had_one(combined, options, call, tmp_path) -> None:
    exact, counts = read_probabilities(combined / FILE_NAME), {}
    for margin in (0, 0.05, 1):
        out = tmp_path / str(margin) / "submission.csv"
        outcome = call(combine, *options, "--out", out, "--views", "adaptive", "--margin", margin)
        assert outcome.code == 0, outcome.err
        assert listed(out) == listed(combined / "submission.csv")
        found = read_probabilities(out.parent / FILE_NAME)
        for task in TASKS:
            views, identity = found.pop(f"{task}/views"), found[f"{task}/identity"]
            np.testing.assert_array_equal(identity, exact[f"{task}/identity"])
            np.testing.assert_array_equal(found[task][views == 1], identity[views == 1])
            np.testing.assert_allclose(found[task][views > 1], exact[task][views > 1], atol=1e-5)
            raw = scale(identity, 1 / found[f"{task}/temperature"])
            second, first = np.sort(raw, axis=1)[:, -2:].T
            assert ((views == 1) == ((first - second >= margin) & (margin < 1))).all()
            counts[margin, task] = int((views == 1).sum())
        assert found.keys() == exact.keys()
        expected = encode([found[task].argmax(axis=1) for task in TASKS], [3, 2, 3])
        assert list(codes_of(out).values()) == expected.tolist()
    assert {counts[0, task] for task in TASKS} == {20}
    assert {counts[1, task] for task in TASKS} == {0}
    assert any(0 < count < 20 for count in counts.values())
    shutil.copy(out, out.with_name("answers.csv"))
    report = ["--config", options[1], "--submission", out, "--answers", out.with_name("answers.csv")]
    assert call(evaluate, *report, "--out", out.parent).code == 0


def test_the_margin_is_chosen_and_saved_beside_the_runs(two_folds, runs, options, call, tmp_path) -> None:
    for task in ("mask/fold-0", "mask/fold-1", "gender", "age"):
        shutil.copy(runs / task.split("/")[0] / "validation.npz", two_folds / task)
    given = [*options, "--runs", two_folds, "--out", tmp_path / "submission.csv", "--views", "adaptive"]
    outcome = call(combine, *given)
    assert outcome.code == 0, outcome.err
    assert "so every image is passed in all views" in outcome.err
    assert (two_folds / "margins.json").is_file()
