"""The plan becomes calls of train_task.py, and run folders become the table; joint F1 is scikit-learn's."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from bench.ablate import __main__ as ablate
from bench.ablate.__main__ import command
from bench.ablate.figures import collect, joint_macro_f1, read_figures
from bench.ablate.plan import DEFAULT, Ablations, Run, config_file, list_runs
from bench.ablate.scores import default_scores
from bench.ablate.table import write_page
from data.runtime.errors import InputError
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import save_tensors
from heads.run.folder import run_folder, write_arrays, write_json
from tests.conftest import Outcome

ROOT = Path(__file__).parents[2]
PLANS = sorted((ROOT / "bench").glob("ablations*.yaml"))
CLASSES = {"mask": 3, "gender": 2, "age": 3}
FILES = ("trunk", "alone", "weights")
HEADS = {**CLASSES, "age_backbone": 3}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(params=PLANS, ids=lambda path: path.stem)
def plan(request: pytest.FixtureRequest) -> Ablations:
    return load_config(Ablations, request.param, [])


def test_every_run_of_a_shipped_plan_is_a_config_that_loads(plan: Ablations) -> None:
    folders = {name: "DIR" for base in [*plan.heads.values(), *plan.levers] for name in base.data or []}
    for run in list_runs(plan):
        call = command(
            run,
            run.folds[0],
            Path("runs"),
            folders,
            {name: f"{name}.safetensors" for name in FILES},
        )
        changes = [call[place + 1] for place, word in enumerate(call) if word == "--set"]
        config = load_config(TaskConfig, config_file(run.head, run.config), changes)
        assert config.task == run.head
        assert config.training.seed == run.seed


def test_a_lever_changes_something(plan: Ablations) -> None:
    def trained(run: Run) -> tuple[object, object]:
        call = command(
            run, None, Path("runs"), dict.fromkeys(run.data, "DIR"), {name: f"{name}.pt" for name in FILES}
        )
        changes = [call[place + 1] for place, word in enumerate(call) if word == "--set"]
        return load_config(TaskConfig, config_file(run.head, run.config), changes), run.data

    first = [run for run in list_runs(plan) if run.seed == plan.seeds[0]]
    defaults = {run.head: trained(run) for run in first if run.lever == DEFAULT}
    assert [run.lever for run in first if run.lever != DEFAULT and trained(run) == defaults[run.head]] == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--only", "cut outt"), "--only: not in the plan\n  cut outt, did you mean cut out?"),
        (("--head", "agee"), "--head: not in the plan\n  agee, did you mean age?"),
        (("--seed", "7"), "--seed: not in the plan\n  7"),
    ],
)
def test_what_the_plan_does_not_have_is_told(
    options: tuple[str, str], told: str, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    plan = tmp_path / "plan.yaml"
    heads = "heads: {age: {data: [train]}}\nlevers: [{name: cut out, head: age, group: G, set: {}}]\n"
    plan.write_text(f"title: T\nnote: N\nseeds: [0]\n{heads}")
    outcome = call(ablate, "train", "--plan", plan, "--runs", tmp_path, *options)
    assert outcome.code == 2
    assert f"{plan}: {told}" in outcome.err


@pytest.mark.parametrize("names", [["lr", "lr"], ["a b", "a_b"], ["a/b", "a-b"], ["default"]])
def test_runs_that_would_share_a_folder_are_refused(names: list[str]) -> None:
    levers = [{"name": name, "head": "age", "group": "G"} for name in names]
    heads = {"age": {"data": ["train"]}, "mask": {"data": ["train"]}}
    elsewhere = {"name": names[0] + "!", "head": "mask", "group": "G"}
    with pytest.raises(InputError, match=r"would share a folder.*\n  age: .* is 2 of them$"):
        list(list_runs(Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[*levers, elsewhere])))


def test_what_the_plan_needs_and_is_not_given_is_told(plan: Ablations) -> None:
    run = next(iter(list_runs(plan)))
    with pytest.raises(InputError, match="give --data"):
        command(run, None, Path("runs"), {}, {})
    with pytest.raises(InputError, match="give --file"):
        command(run, None, Path("runs"), dict.fromkeys(run.data, "DIR"), {})


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_is_not_there_yet_is_trained_and_what_fails_is_told(
    jobs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    levers = "".join(
        f"  - {{name: {name}, head: mask, group: '', set: {{}}}}\n" for name in ("bad", "good", "old")
    )
    plan.write_text(f"title: T\nnote: N\nseeds: [0]\nheads: {{mask: {{data: [train]}}}}\nlevers:\n{levers}")

    def write_and_fail_if_bad(run: Run, _: None, runs: Path, *__: object) -> list[str]:
        done = run_folder(run.folder(runs), run.head).metrics
        script = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(parents=True); p.touch()"
        return [sys.executable, "-c", "raise SystemExit(1)" if run.lever == "bad" else script, str(done)]

    monkeypatch.setattr(ablate, "command", write_and_fail_if_bad)
    old = run_folder(tmp_path / "old/seed-0", "mask").metrics
    old.parent.mkdir(parents=True)
    old.write_text("kept")
    monkeypatch.setattr(
        sys, "argv", ["ablate", "train", "--plan", str(plan), "--runs", str(tmp_path), "--jobs", jobs]
    )
    with pytest.raises(InputError, match="bad, mask, seed 0"):
        ablate.main()
    assert old.read_text() == "kept"
    assert run_folder(tmp_path / "good/seed-0", "mask").metrics.is_file()
    assert run_folder(tmp_path / "default/seed-0", "mask").metrics.is_file()


def test_steps_are_changed_where_they_stand() -> None:
    steps = {"letterbox": {"height": 64, "width": 48}, "grey": None}
    lever = {"name": "small", "head": "mask", "group": "64x48, no grey", "steps": steps}
    heads = {"mask": {"data": ["train"]}}
    plan = Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[lever])
    default, changed = list_runs(plan)
    before = load_config(TaskConfig, Path("configs/mask.yaml"), []).pixels
    after = changed.settings
    assert default.settings == {}
    assert after["pixels.evaluate"] == [{"letterbox": steps["letterbox"]}]
    assert [step for step in before.train if step not in after["pixels.train"]] == [
        {"letterbox": {"height": 160, "width": 120}},
        {"grey": {"p": 0.1}},
    ]
    assert len(after["pixels.train"]) == len(before.train) - 1
    larger = [{"letterbox": {"height": 90, "width": 68}}, {"center_crop": {"height": 80, "width": 60}}]
    cropped = {**lever, "steps": {"letterbox": larger}}
    _, run = list_runs(Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[cropped]))
    assert run.settings["pixels.evaluate"] == larger
    assert run.settings["pixels.train"][1:3] == larger
    wrong = {**lever, "steps": {"gray": None}}
    with pytest.raises(InputError, match="gray: expected one of"):
        list(list_runs(Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[wrong])))


def small_plan() -> Ablations:
    heads = {task: {"data": ["train"]} for task in CLASSES}
    lever = {"name": "better", "head": "age", "group": "a change", "set": {"training.epochs": 2}}
    return Ablations(title="T", note="N", seeds=[0, 1, 2], heads=heads, levers=[lever])


def finished(
    folder: Path,
    task: str,
    right: float,
    seed: int = 0,
    extra: int = 0,
    off: float | None = None,
    fold: int | None = None,
) -> float:
    """A run of 60 images and some of its own, with a share of right answers; its macro F1 on the 60.

    With `off` it predicts years, on the 60 so many from the true ones. Each fold has images of its own.
    """
    rng = np.random.default_rng([len(task), int(right * 100), seed])
    classes = HEADS[task]
    truth = np.r_[np.random.default_rng(len(task)).integers(0, classes, 60), np.zeros(extra, dtype=int)]
    answers = np.where(rng.random(60 + extra) < right, truth, classes - 1)
    run = run_folder(folder, task, fold)
    run.folder.mkdir(parents=True)
    arrays = {
        "path": np.array([f"/x{fold or ''}/{row}.jpg" for row in range(60 + extra)]),
        "classes": np.arange(classes).astype(str),
        "truth": truth,
        "probabilities": np.eye(classes)[answers],
    }
    if off is not None:
        arrays |= {
            "value": np.full(60 + extra, 30.0),
            "expected": np.r_[np.full(60, 30 - off), np.zeros(extra)],
        }
    write_arrays(run.validation, arrays)
    write_json(run.metrics, {"macro_f1": 0.123, "minutes": 1.5})
    return f1_score(truth[:60], answers[:60], labels=range(classes), average="macro", zero_division=0)


def page_of(runs: Path) -> str:
    collect([small_plan()], [runs], runs / "figures.csv")
    return write_page([small_plan()], read_figures(runs / "figures.csv"))


def test_the_table_has_means_spreads_and_paired_differences(tmp_path: Path) -> None:
    default, better = [], []
    for seed in (0, 1):
        for task in CLASSES:
            score = finished(tmp_path / "default" / f"seed-{seed}", task, 0.6, seed)
        default.append(score)
        better.append(finished(tmp_path / "better" / f"seed-{seed}", "age", 0.9, seed, extra=30))
    alone = finished(tmp_path / "default" / "seed-2", "age", 0.3, 2)  # a seed that the lever does not have
    page = page_of(tmp_path)
    three = [*default, alone]
    assert f"| default |  | {np.mean(three):.3f} ± {np.std(three, ddof=1):.3f} |  |" in page
    row = next(line for line in page.splitlines() if line.startswith("| better |"))
    told = f"{np.mean(better):.3f} ± {np.std(better, ddof=1):.3f} | {np.mean(better) - np.mean(default):+.3f}"
    assert row.startswith(f"| better | a change | {told} | ")
    assert row.endswith("| 1.5 | 2 |")


def test_minutes_of_a_gpu_stand_apart(tmp_path: Path) -> None:
    for seed, gpu in ((0, {}), (1, {"GPU": "NVIDIA H200"})):
        folder = tmp_path / "default" / f"seed-{seed}"
        finished(folder, "age", 0.6, seed)
        write_json(run_folder(folder, "age").metrics, {"minutes": 8.0 / (1 + 15 * seed)})
        save_tensors(run_folder(folder, "age").best, {"x": torch.zeros(1)}, {"machine": {"cores": "2", **gpu}})
    heading, _, row = page_of(tmp_path).strip().splitlines()[-3:]
    assert heading == "| lever | what | macro F1 | difference | minutes | minutes on a GPU | seeds |"
    assert row.endswith(" | 8.0 | 0.5 | 2 |")
    assert read_figures(tmp_path / "figures.csv")["gpu"].fillna("").tolist() == ["", "NVIDIA H200"]


def test_a_head_of_numbers_has_its_error_on_the_images_of_the_default(tmp_path: Path) -> None:
    heads = {"age_backbone": {"data": ["train"]}}
    lever = {"name": "longer", "head": "age_backbone", "group": "G", "set": {"training.epochs": 2}}
    plan = Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[lever])
    for name, off, extra in (("default", 4.0, 0), ("longer", 2.5, 5)):
        folder = tmp_path / name / "seed-0"
        finished(folder, "age_backbone", 0.8, extra=extra, off=off)
    collect([plan], [tmp_path], tmp_path / "figures.csv")
    figures = read_figures(tmp_path / "figures.csv").set_index("lever")
    assert figures["mae"].to_dict() == {"default": 4.0, "longer": 2.5}
    assert figures["joint_macro_f1"].isna().all(), "three classes of age are not the joint code's eighteen"
    heading, _, _, row = write_page([plan], read_figures(tmp_path / "figures.csv")).strip().splitlines()[-4:]
    assert heading == "| lever | what | macro F1 | difference | mean absolute error | minutes | seeds |"
    assert row.split(" | ")[-3:] == ["2.50", "1.5", "1 |"]


def test_a_lever_with_less_data_is_shown_the_images_of_the_default(runs: Path, tmp_path: Path) -> None:
    heads = {"age": {"data": ["train", "portraits"]}}
    lever = {"name": "alone", "head": "age", "group": "G", "data": ["train"]}
    plan = Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[lever])
    default, alone = list_runs(plan)
    for run in (default, alone):
        shutil.copytree(runs / "age", run.folder(tmp_path) / "age")
    whole = default_scores(plan, default, tmp_path)
    with np.load(runs / "age" / "validation.npz") as arrays:
        half = len(arrays["path"]) // 2
        known = {name: array if array.ndim == 0 else array[:half] for name, array in arrays.items()}
    write_arrays(alone.folders(tmp_path)[0].validation, {**known, "classes": whole.columns[:3].to_numpy(str)})
    found = default_scores(plan, alone, tmp_path).loc[whole.index]
    pd.testing.assert_frame_equal(found, whole, rtol=0, atol=1e-4)
    with patch("bench.ablate.scores.predict_views", side_effect=AssertionError("shown again")):
        pd.testing.assert_frame_equal(default_scores(plan, alone, tmp_path).loc[whole.index], found)
    shutil.copy(runs / "gender" / "best.safetensors", alone.folders(tmp_path)[0].best)
    other = patch("bench.ablate.scores.predict_views", side_effect=AssertionError("another head"))
    with other, pytest.raises(AssertionError, match="another head"):
        default_scores(plan, alone, tmp_path)
    shutil.copy(runs / "age" / "best.safetensors", alone.folders(tmp_path)[0].best)
    more = {**lever, "data": ["train", "portraits", "others"]}
    plan = Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[more])
    assert len(default_scores(plan, alone, tmp_path)) == len(whole)
    assert len(default_scores(plan, replace(alone, data=more["data"]), tmp_path)) == half, "nobody asked"


def test_several_folds_are_judged_on_the_people_of_all_of_them(tmp_path: Path) -> None:
    heads = {task: {"data": ["train"], "folds": [0, 1] if task == "age" else []} for task in CLASSES}
    plan = Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[])
    folder, file = tmp_path / "default" / "seed-0", tmp_path / "figures.csv"
    finished(folder, "age", 0.7, fold=0)
    assert collect([plan], [tmp_path], file) == 0, "one of its folds is not done"
    finished(folder, "age", 0.9, seed=1, fold=1)
    for task in ("mask", "gender"):
        finished(folder, task, 0.8)
    assert collect([plan], [tmp_path], file) == 3
    arrays = [np.load(run_folder(folder, "age", fold).validation) for fold in (0, 1)]
    truth = np.concatenate([each["truth"] for each in arrays])
    answers = np.concatenate([each["probabilities"].argmax(axis=1) for each in arrays])
    row = read_figures(file).set_index("head").loc["age"]
    assert row["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro"), abs=1e-5)
    assert row["minutes"] == 1.5
    shared = [[run_folder(folder, task, 0 if task == "age" else None)] for task in CLASSES]
    assert row["joint_macro_f1"] == pytest.approx(joint_macro_f1(shared), abs=1e-5), (
        "the other heads have one fold"
    )


def test_each_fold_is_a_call_with_files_of_its_own() -> None:
    heads = {"age": {"data": ["train"], "folds": [3, 4], "set": {"backbone.weights": "{backbone}"}}}
    (run,) = list_runs(Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[]))
    files = {"trunk": "runs/age_backbone/fold-{fold}/best.safetensors"}
    call = command(run, run.folds[1], Path("runs"), {"train": "DIR"}, files)
    assert call[call.index("--fold") + 1] == "4"
    assert "backbone.weights=runs/age_backbone/fold-4/best.safetensors" in call


def test_what_did_not_end_is_not_in_the_table(tmp_path: Path) -> None:
    finished(tmp_path / "default" / "seed-0", "age", 0.8)
    page = page_of(tmp_path)
    assert "### age" in page
    assert "better" not in page
    assert "### gender" not in page


def test_figures_outlive_their_runs_and_newer_ones_replace_them(tmp_path: Path) -> None:
    file, plan = tmp_path / "figures.csv", small_plan()
    one = finished(tmp_path / "a" / "default" / "seed-0", "age", 0.8)
    finished(tmp_path / "a" / "better" / "seed-0", "age", 0.9)
    assert collect([plan], [tmp_path / "a"], file) == 2
    before = file.read_text()
    assert collect([plan], [tmp_path / "nothing"], file) == 0
    assert file.read_text() == before
    other = finished(tmp_path / "b" / "default" / "seed-0", "age", 0.3)
    assert other != one
    assert collect([plan], [tmp_path / "b"], file) == 1
    kept = read_figures(file).set_index("lever")["macro_f1"]
    assert kept["default"] == pytest.approx(other, abs=1e-5)
    assert len(kept) == 2


def test_the_joint_macro_f1_is_scikit_learns_on_the_shared_images(tmp_path: Path) -> None:
    for task in CLASSES:
        finished(tmp_path, task, 0.7)
    folders = {task: run_folder(tmp_path, task) for task in CLASSES}
    arrays = {task: dict(np.load(folder.validation)) for task, folder in folders.items()}
    codes = {
        name: sum(value * radix for value, radix in zip(digits, (6, 3, 1), strict=True))
        for name, digits in (
            ("truth", [each["truth"] for each in arrays.values()]),
            ("answer", [each["probabilities"].argmax(axis=1) for each in arrays.values()]),
        )
    }
    expected = f1_score(codes["truth"], codes["answer"], labels=range(18), average="macro", zero_division=0)
    assert joint_macro_f1([[folder] for folder in folders.values()]) == pytest.approx(expected)
    order = np.random.default_rng(0).permutation(60)
    moved = {name: array if name == "classes" else array[order] for name, array in arrays["age"].items()}
    write_arrays(folders["age"].validation, moved)
    assert joint_macro_f1([[folder] for folder in folders.values()]) == pytest.approx(expected)


def test_a_joint_head_is_multiplied_by_the_tasks_heads(tmp_path: Path) -> None:
    joint = {"config": "configs/baselines/joint18.yaml", "data": ["train"]}
    heads = {task: {"data": ["train"]} for task in CLASSES} | {"joint18": joint}
    product = {"name": "times", "head": "joint18", "group": "all multiplied"}
    plan = Ablations(title="T", note="N", seeds=[0], heads=heads, levers=[], products=[product])
    folder, file = tmp_path / "default" / "seed-0", tmp_path / "figures.csv"
    for task in CLASSES:
        finished(folder, task, 0.7)
    three = {task: run_folder(folder, task) for task in CLASSES}
    arrays = {task: np.load(its.validation) for task, its in three.items()}
    truth = arrays["mask"]["truth"] * 6 + arrays["gender"]["truth"] * 3 + arrays["age"]["truth"]
    whole = run_folder(folder, "joint18")
    whole.folder.mkdir()
    collect([plan], [tmp_path], file)
    assert "times" not in read_figures(file)["lever"].tolist(), "its head is not done"
    write_json(whole.metrics, {"minutes": 2.0})
    order = np.random.default_rng(1).permutation(60)
    of_three = joint_macro_f1([[its] for its in three.values()])
    for probabilities, expected in (
        (np.full((60, 18), 1 / 18), of_three),  # it says nothing: the three heads decide
        (np.eye(18)[truth], f1_score(truth, truth, labels=range(18), average="macro", zero_division=0)),
    ):
        softened = 0.99 * probabilities + 0.01 / 18
        kept = {"path": arrays["age"]["path"], "truth": truth, "probabilities": softened}
        write_arrays(whole.validation, {name: array[order] for name, array in kept.items()})
        for task, its in arrays.items():
            flat = 0.9 * its["probabilities"] + 0.1 / CLASSES[task]
            write_arrays(three[task].validation, {**its, "probabilities": flat})
        collect([plan], [tmp_path], file)
        figures = read_figures(file).set_index("lever")
        assert figures.loc["times", "macro_f1"] == pytest.approx(expected, abs=1e-5)
        assert figures.loc["times", "minutes"] == 3 * 1.5 + 2.0
    assert "| times | all multiplied |" in write_page([plan], read_figures(file))


def test_each_plan_is_collected_from_runs_of_its_own(call: Callable, tmp_path: Path) -> None:
    given = ["--plan", PLANS[0], "--plan", PLANS[1], "--runs", tmp_path]
    outcome = call(ablate, "collect", *given, "--figures", tmp_path / "figures.csv")
    assert outcome.code == 2
    told = "collect: found 2 --plan and 1 --runs, expected one --runs for each --plan, in their order"
    assert outcome.err == f"error: {told}\n"
    assert not (tmp_path / "figures.csv").exists()
    both = call(ablate, "collect", *given, "--runs", tmp_path, "--figures", tmp_path / "figures.csv")
    assert both.code == 0, both.err
