"""Plans become calls of train_task.py, run folders become the table; macro F1 is scikit-learn's."""

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from bench.ablate import __main__ as ablate
from bench.ablate.__main__ import train_command
from bench.ablate.figures import collect, joint_macro_f1, load_scores
from bench.ablate.plan import DEFAULT, Ablations, Run, list_runs
from bench.ablate.table import read_figures, write_page
from data.runtime.errors import InputError
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import save_tensors
from heads.run.folder import run_folder, write_arrays, write_json
from tests.conftest import ROOT, Outcome

PLANS = sorted((ROOT / "bench/ablate/plans").glob("*.yaml"))
CLASSES = {"mask": 3, "gender": 2, "age": 3}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def make_plan(*levers: Mapping[str, object], seeds: tuple[int, ...] = (0,), **heads: object) -> Ablations:
    heads = heads or {task: {"data": ["train"]} for task in CLASSES}
    named = [{"group": "G", **lever} for lever in levers]
    return Ablations(title="T", note="N", seeds=list(seeds), heads=heads, levers=named)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_run_of_a_shipped_plan_loads_and_differs_from_the_default(path: Path) -> None:
    def load(run: Run) -> tuple[object, object]:
        files = {name: f"{name}.safetensors" for name in ("backbone", "weights")}
        command = train_command(run, Path("runs"), dict.fromkeys(run.data, "DIR"), files)
        settings = [command[place + 1] for place, word in enumerate(command) if word == "--set"]
        config = load_config(TaskConfig, run.config, settings)
        assert (config.task, config.training.seed) == (run.head, run.seed)
        return config, run.data

    plan = load_config(Ablations, path, [])
    runs = [run for run in list_runs(plan) if run.seed == plan.seeds[0]]
    defaults = {run.head: load(run) for run in runs if run.lever == DEFAULT}
    assert [run.lever for run in runs if run.lever != DEFAULT and load(run) == defaults[run.head]] == []


def test_the_shipped_table_is_that_of_the_shipped_figures() -> None:
    figures = read_figures(ROOT / "bench/ablate/ablations.csv")
    rows = [line for line in (ROOT / "docs/ablations.md").read_text().splitlines() if line.startswith("| ")]
    written = write_page([load_config(Ablations, path, []) for path in PLANS], figures)
    assert sorted(rows) == sorted(line for line in written.splitlines() if line.startswith("| "))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "cut outt"), "--only: not in the plan\n  cut outt, did you mean cut out?"),
        (("--head", "agee"), "--head: not in the plan\n  agee, did you mean age?"),
        (("--seed", "7"), "--seed: not in the plan\n  7"),
        ((), "data folders of the plan are missing\n  train: give --data train=DIR"),
        (("--data", "train=DIR"), "cut out: backbone.weights={weights}: give --file weights=FILE"),
    ],
)
def test_wrong_options_of_train_are_refused(
    options: tuple[str, ...], message: str, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    plan = tmp_path / "plan.yaml"
    lever = "{name: cut out, head: age, group: G, set: {backbone.weights: '{weights}'}}"
    plan.write_text(f"title: T\nnote: N\nseeds: [0]\nheads: {{age: {{data: [train]}}}}\nlevers: [{lever}]\n")
    outcome = call(ablate, "train", "--plan", plan, "--runs", tmp_path, *options)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize("names", [["lr", "lr"], ["a b", "a_b"], ["a/b", "a-b"], ["default"]])
def test_levers_that_would_share_a_folder_are_refused(names: list[str]) -> None:
    elsewhere = {"name": names[0] + "!", "head": "mask"}
    with pytest.raises(InputError, match=r"would share a folder.*\n  age: .* is used 2 times$"):
        list(list_runs(make_plan(*({"name": name, "head": "age"} for name in names), elsewhere)))


@pytest.mark.parametrize("jobs", [1, 2])
def test_unfinished_runs_are_trained_and_failures_listed(
    jobs: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    names = ("bad", "good", "old")
    levers = "".join(f"  - {{name: {name}, head: mask, group: ''}}\n" for name in names)
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"title: T\nnote: N\nseeds: [0]\nheads: {{mask: {{data: [train]}}}}\nlevers:\n{levers}")

    def write_or_fail(run: Run, root: Path, *_: object) -> list[str]:
        script = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(parents=True); p.touch()"
        program = "raise SystemExit(1)" if run.lever == "bad" else script
        return [sys.executable, "-c", program, str(run.folder(root).metrics)]

    monkeypatch.setattr(ablate, "train_command", write_or_fail)
    metrics = {name: run_folder(tmp_path / name / "seed-0", "mask").metrics for name in (*names, DEFAULT)}
    metrics["old"].parent.mkdir(parents=True)
    metrics["old"].write_text("before")
    outcome = call(ablate, "train", "--plan", plan, "--runs", tmp_path, "--jobs", jobs)
    assert outcome.code == 2
    assert "runs failed; the others are done\n  bad, mask, seed 0\n" in outcome.err
    assert metrics["old"].read_text() == "before"
    assert [name for name in metrics if metrics[name].is_file()] == ["good", "old", DEFAULT]


def test_steps_are_replaced_where_they_are() -> None:
    def settings(steps: Mapping[str, object]) -> Mapping[str, list[object]]:
        _, run = list_runs(make_plan({"name": "L", "head": "mask", "steps": steps}, mask={"data": ["train"]}))
        return run.settings

    before = load_config(TaskConfig, Path("configs/mask.yaml"), []).pixels
    letterbox, grey = {"letterbox": {"height": 160, "width": 120}}, {"grey": {"p": 0.1}}
    small = {"letterbox": {"height": 64, "width": 48}}
    after = settings({**small, "grey": None})
    assert after["pixels.evaluate"] == [small]
    expected = [small if step == letterbox else step for step in before.train if step != grey]
    assert after["pixels.train"] == expected != before.train
    two = [small, {"center_crop": {"height": 60, "width": 44}}]
    assert settings({"letterbox": two})["pixels.evaluate"] == two
    with pytest.raises(InputError, match="gray: expected one of"):
        settings({"gray": None})


def write_run(
    runs: Path, task: str, right: float, seed: int = 0, extra: int = 0, off: float | None = None
) -> float:
    """Write a run of 60 images, and of `extra` others, with a share of right answers; return its macro F1 on the 60.

    With `off` it predicts years, so many from the true ones on the 60.
    """
    rng, classes = np.random.default_rng([len(task), int(right * 100), seed]), CLASSES.get(task, 3)
    truth = np.r_[np.random.default_rng(len(task)).integers(0, classes, 60), np.zeros(extra, dtype=int)]
    answers = np.where(rng.random(60 + extra) < right, truth, classes - 1)
    numbers = (
        {}
        if off is None
        else {"value": np.full(60 + extra, 30.0), "expected": np.r_[np.full(60, 30 - off), np.zeros(extra)]}
    )
    write_validation(runs, task, truth, np.eye(classes)[answers], **numbers)
    write_json(run_folder(runs, task).metrics, {"macro_f1": 0.123, "minutes": 1.5})
    return f1_score(truth[:60], answers[:60], labels=range(classes), average="macro", zero_division=0)


def write_validation(
    runs: Path, task: str, truth: np.ndarray, probabilities: np.ndarray, **more: np.ndarray
) -> None:
    paths = np.array([f"/x/{row}.jpg" for row in range(len(truth))])
    arrays = {"path": paths, "person": paths, "shot": np.full(len(truth), ""), "truth": truth} | more
    order = np.random.default_rng(len(task)).permutation(
        len(truth)
    )  # heads list the images in different orders
    arrays = {name: array[order] for name, array in (arrays | {"probabilities": probabilities}).items()}
    arrays |= {
        "column": "c",
        "borders": [],
        "folds": 2,
        "classes": np.arange(probabilities.shape[1]).astype(str),
    }
    run = run_folder(runs, task)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_arrays(run.validation, arrays)


def page_of(plan: Ablations, root: Path) -> str:
    collect([plan], [root], root / "figures.csv")
    return write_page([plan], read_figures(root / "figures.csv"))


BETTER = {"name": "better", "head": "age", "set": {"training.epochs": 2}}


def test_the_table_has_means_spreads_and_paired_differences(tmp_path: Path) -> None:
    default, better = [], []
    for seed in (0, 1):
        scores = [write_run(tmp_path / f"default/seed-{seed}", task, 0.6, seed) for task in CLASSES]
        default.append(scores[-1])
        better.append(write_run(tmp_path / f"better/seed-{seed}", "age", 0.9, seed, extra=30))
    three = [*default, write_run(tmp_path / "default/seed-2", "age", 0.3, 2)]  # a seed without the lever
    page = page_of(make_plan(BETTER, {"name": "unfinished", "head": "age"}, seeds=(0, 1, 2)), tmp_path)
    assert f"| default |  | {np.mean(three):.3f} ± {np.std(three, ddof=1):.3f} |  |" in page
    figures = (
        f"{np.mean(better):.3f} ± {np.std(better, ddof=1):.3f} | {np.mean(better) - np.mean(default):+.3f}"
    )
    [row] = [line for line in page.splitlines() if line.startswith("| better |")]
    assert row.startswith(f"| better | G | {figures} | ")
    assert row.endswith("| 1.5 | 2 |")
    assert "unfinished" not in page


def test_minutes_on_a_gpu_have_a_column_of_their_own(tmp_path: Path) -> None:
    for seed, gpu, minutes in ((0, {}, 8.0), (1, {"GPU": "NVIDIA H200"}, 0.5)):
        runs = tmp_path / f"default/seed-{seed}"
        write_run(runs, "age", 0.6, seed)
        write_json(run_folder(runs, "age").metrics, {"minutes": minutes})
        save_tensors(run_folder(runs, "age").best, {"x": torch.zeros(1)}, {"machine": {"cores": "2", **gpu}})
    heading, _, row = page_of(make_plan(seeds=(0, 1)), tmp_path).strip().splitlines()[-3:]
    assert heading == "| lever | what | macro F1 | difference | minutes | minutes on a GPU | seeds |"
    assert row.endswith(" | 8.0 | 0.5 | 2 |")


def test_errors_of_numbers_are_of_the_images_of_the_default(tmp_path: Path) -> None:
    for name, off, extra in (("default", 4.0, 0), ("longer", 2.5, 5)):
        write_run(tmp_path / name / "seed-0", "age_backbone", 0.8, extra=extra, off=off)
    page = page_of(make_plan({"name": "longer", "head": "age_backbone"}, age_backbone={"data": []}), tmp_path)
    heading, _, default, longer = page.strip().splitlines()[-4:]
    assert heading == "| lever | what | macro F1 | difference | mean absolute error | minutes | seeds |"
    assert [row.split(" | ")[4] for row in (default, longer)] == ["4.00", "2.50"]


def test_a_lever_with_less_data_predicts_the_other_images_of_the_default(runs: Path, tmp_path: Path) -> None:
    plan = make_plan({"name": "alone", "head": "age", "data": ["train"]}, age={"data": ["train", "portraits"]})
    default, alone = list_runs(plan)
    for run in (default, alone):
        shutil.copytree(runs / "age", run.runs(tmp_path) / "age")
    whole = load_scores(plan, default, tmp_path)
    folder = alone.folder(tmp_path)
    with np.load(folder.validation) as arrays:
        half = len(arrays["path"]) // 2
        rows = ("path", "person", "shot", "truth", "probabilities", "expected", "value")
        write_arrays(
            folder.validation, {name: array[:half] if name in rows else array for name, array in arrays.items()}
        )
    found = load_scores(plan, alone, tmp_path).loc[whole.index]
    pd.testing.assert_frame_equal(found, whole, rtol=0, atol=1e-4)
    with patch("bench.ablate.figures.predict_task", side_effect=AssertionError("predicted again")):
        pd.testing.assert_frame_equal(load_scores(plan, alone, tmp_path).loc[whole.index], found)
        shutil.copy(runs / "gender" / "best.safetensors", folder.best)
        with pytest.raises(AssertionError, match="predicted again"):  # it is another head
            load_scores(plan, alone, tmp_path)


def test_figures_outlive_their_runs_and_newer_ones_replace_them(tmp_path: Path) -> None:
    file, plan = tmp_path / "figures.csv", make_plan(BETTER)
    write_run(tmp_path / "a/default/seed-0", "age", 0.8)
    write_run(tmp_path / "a/better/seed-0", "age", 0.9)
    assert collect([plan], [tmp_path / "a"], file) == 2
    before = file.read_text()
    assert collect([plan], [tmp_path / "nothing"], file) == 0
    assert file.read_text() == before
    newer = write_run(tmp_path / "b/default/seed-0", "age", 0.3)
    assert collect([plan], [tmp_path / "b"], file) == 1
    scores = read_figures(file).set_index("lever")["macro_f1"]
    assert len(scores) == 2
    assert scores["default"] == pytest.approx(newer, abs=1e-5)


def test_joint_figures_are_scikit_learn_s_on_the_shared_images(tmp_path: Path) -> None:
    runs = tmp_path / "default/seed-0"
    rng = np.random.default_rng(0)
    truths = {task: rng.integers(0, classes, 60) for task, classes in CLASSES.items()}
    probabilities = {task: rng.dirichlet(np.ones(classes), 60) for task, classes in CLASSES.items()}
    for task in CLASSES:
        write_validation(runs, task, truths[task], probabilities[task])
        write_json(run_folder(runs, task).metrics, {"minutes": 1.5})

    def code(digits: Mapping[str, np.ndarray]) -> np.ndarray:
        return digits["mask"] * 6 + digits["gender"] * 3 + digits["age"]

    def score(answers: np.ndarray) -> float:
        return f1_score(code(truths), answers, labels=range(18), average="macro", zero_division=0)

    expected = score(code({task: each.argmax(axis=1) for task, each in probabilities.items()}))
    assert joint_macro_f1([run_folder(runs, task) for task in CLASSES]) == pytest.approx(expected)
    heads = {task: {"data": []} for task in CLASSES} | {
        "joint18": {"config": "configs/baselines/joint18.yaml", "data": []}
    }
    plan = make_plan({"name": "times", "head": "joint18", "product": True}, **heads)
    collect([plan], [tmp_path], tmp_path / "figures.csv")
    assert "times" not in set(read_figures(tmp_path / "figures.csv")["lever"]), "the joint head is not finished"
    for joint, product in (
        (np.full((60, 18), 1 / 18), expected),
        (0.99 * np.eye(18)[code(truths)] + 1e-9, score(code(truths))),
    ):
        write_validation(runs, "joint18", code(truths), joint)
        write_json(run_folder(runs, "joint18").metrics, {"minutes": 2.0})
        collect([plan], [tmp_path], tmp_path / "figures.csv")
        figures = read_figures(tmp_path / "figures.csv").set_index("lever").loc["times"]
        assert figures["macro_f1"] == pytest.approx(product, abs=1e-5)
        assert figures["minutes"] == 3 * 1.5 + 2.0


def test_each_plan_is_collected_from_runs_of_its_own(call: Callable[..., Outcome], tmp_path: Path) -> None:
    options = [
        "--plan",
        PLANS[0],
        "--plan",
        PLANS[1],
        "--runs",
        tmp_path,
        "--figures",
        tmp_path / "figures.csv",
    ]
    outcome = call(ablate, "collect", *options)
    assert outcome.code == 2
    assert "found 2 --plan and 1 --runs, expected one --runs for each --plan" in outcome.err
    assert not (tmp_path / "figures.csv").exists()
