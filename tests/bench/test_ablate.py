"""Plans become calls of train_task.py, run folders become the table; macro F1 is scikit-learn's."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from bench.ablate import __main__ as ablate
from bench.ablate.__main__ import train_command
from bench.ablate.figures import collect, joint_macro_f1, load_predictions
from bench.ablate.plan import DEFAULT, Ablations, Run, list_runs
from bench.ablate.table import read_figures, write_page
from bench.validation import select
from data.annotations.table import read_table
from data.runtime.arrays import write_arrays
from data.runtime.errors import InputError
from ensemble import Ensemble
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import save_tensors
from heads.run.folder import run_folder, write_json
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
        files = {name: f"{name}.safetensors" for name in ("backbone", "weights")} | {"embeddings": "embeddings.npz"}
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
    page = write_page([load_config(Ablations, path, []) for path in PLANS], figures)
    assert sorted(page.splitlines()) == sorted((ROOT / "docs/ablations.md").read_text().splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("train", "--debug", "--only", "cut outt"), "no such lever in the plan\n  cut outt, did you mean cut out?"),
        (("train", "--head", "agee"), "no such head in the plan\n  agee, did you mean age?"),
        (("train", "--seed", "7"), "no such seed in the plan\n  7"),
        (("train",), "data folders of the plan are missing\n  train: give --data train=DIR"),
        (("train", "--data", "train=DIR"), "cut out: backbone.weights={weights}: give --file weights=FILE"),
        (
            ("collect", "--plan", PLANS[0], "--figures", "f.csv"),
            "found 2 --plan and 1 --runs, expected one --runs for each --plan",
        ),
    ],
)
def test_wrong_options_are_refused(options: tuple, message: str, tmp_path: Path, call: Callable[..., Outcome]) -> None:
    lever = {"name": "cut out", "head": "age", "set": {"backbone.weights": "{weights}"}}
    (tmp_path / "plan.yaml").write_text(make_plan(lever, age={"data": ["train"]}).model_dump_json())
    outcome = call(ablate, *options, "--plan", tmp_path / "plan.yaml", "--runs", tmp_path)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize("names", [["lr", "lr"], ["a b", "a_b"], ["a/b", "a-b"], ["default"]])
def test_levers_that_would_share_a_folder_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"would share a folder.*\n  age: .* is used 2 times$"):
        list(list_runs(make_plan(*({"name": name, "head": "age"} for name in names))))


def test_unfinished_runs_are_trained_and_failures_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    def write_or_fail(run: Run, root: Path, *_: object) -> list[str]:
        file = run.folder(root).metrics
        file.parent.mkdir(parents=True, exist_ok=True)
        return ["sh", "-c", "exit 1" if run.lever == "bad" else f"touch '{file}'"]

    monkeypatch.setattr(ablate, "train_command", write_or_fail)
    plan = make_plan(*({"name": name, "head": "mask"} for name in ("bad", "good", "old")), mask={"data": ["train"]})
    (tmp_path / "plan.yaml").write_text(plan.model_dump_json())
    metrics = {run.lever: run.folder(tmp_path).metrics for run in list_runs(plan)}
    metrics["old"].parent.mkdir(parents=True)
    metrics["old"].write_text("before")
    outcome = call(ablate, "train", "--plan", tmp_path / "plan.yaml", "--runs", tmp_path, "--jobs", 2)
    assert outcome.code == 2
    assert "runs failed; the others are done\n  bad, mask, seed 0\n" in outcome.err
    assert metrics["old"].read_text() == "before"
    assert [name for name, file in metrics.items() if file.is_file()] == [DEFAULT, "good", "old"]


def test_steps_are_replaced_where_they_are() -> None:
    def settings(steps: Mapping[str, object], **setting: object) -> Mapping[str, list[object]]:
        lever = {"name": "L", "head": "mask", "steps": steps, "set": setting}
        _, run = list_runs(make_plan(lever, mask={"data": ["train"]}))
        return run.settings

    before = load_config(TaskConfig, Path("configs/mask.yaml"), []).pixels
    letterbox, small = before.evaluate[0], {"letterbox": {"height": 64, "width": 48}}
    after = settings({**small, "grey": None})
    expected = [small if step == letterbox else step for step in before.train if "grey" not in step]
    assert (after["pixels.evaluate"], after["pixels.train"]) == ([small], expected)
    own = {"pixels.evaluate": [{"resize": {"height": 9, "width": 9}}]}
    assert settings({"grey": None}, **own)["pixels.evaluate"] == own["pixels.evaluate"]
    with pytest.raises(InputError, match="gray: expected one of"):
        settings({"gray": None})


def write_run(runs: Path, task: str, truth: np.ndarray, p: np.ndarray, minutes: float = 1.5, **more: object) -> None:
    """Write the validation and metrics of a run; heads list their images in different orders."""
    paths, order = np.arange(len(truth)).astype(str), np.random.default_rng(len(task)).permutation(len(truth))
    rows = {"path": paths, "person": paths, "shot": paths, "truth": truth, "probabilities": p, **more}
    arrays = {name: np.asarray(array)[order] for name, array in rows.items()}
    arrays |= {"column": "c", "borders": [], "folds": 2, "classes": np.arange(p.shape[1]).astype(str)}
    run = run_folder(runs, task)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_arrays(run.validation, arrays)
    write_json(run.metrics, {"minutes": minutes})


def write_age(runs: Path, right: float, extra: int = 0, off: float = 0.0, minutes: float = 1.5) -> float:
    """Write an age run and return the macro F1 of its first 60 images; the `extra` ones are not to be counted."""
    truth = np.r_[np.arange(60) % 3, np.zeros(extra, dtype=int)]
    answers = np.where(np.arange(60 + extra) < 60 * right, truth, 2)
    years = np.full(60 + extra, 30.0)
    write_run(runs, "age", truth, np.eye(3)[answers], minutes, value=years, expected=years - off)
    return f1_score(truth[:60], answers[:60], average="macro", zero_division=0)


def test_the_table_has_means_spreads_and_paired_differences(tmp_path: Path) -> None:
    default = [write_age(tmp_path / f"default/seed-{seed}", 0.5 + 0.1 * seed, off=4) for seed in (0, 1, 2)]
    better = [write_age(tmp_path / f"better/seed-{seed}", 0.9 - 0.1 * seed, 9, 2.5, 0.5) for seed in (0, 1)]
    for seed in (0, 1):
        description = {"machine": {"cores": "2", "GPU": "NVIDIA H200"}}
        save_tensors(tmp_path / f"better/seed-{seed}/age/best.safetensors", {"x": torch.zeros(1)}, description)
    plan = make_plan(*({"name": name, "head": "age"} for name in ("better", "unfinished")), seeds=(0, 1, 2))
    collect([plan], [tmp_path], tmp_path / "figures.csv")
    *_, heading, _, first, second = write_page([plan], read_figures(tmp_path / "figures.csv")).splitlines()
    assert heading.split(" | ")[3:] == ["difference", "mean absolute error", "minutes", "minutes on a GPU", "seeds |"]
    f1 = f"{np.mean(default):.3f} ± {np.std(default, ddof=1):.3f}"
    assert first == f"| default |  | {f1} |  | 4.00 ± 0.00 | 1.5 |  | 3 |"
    f1, difference = f"{np.mean(better):.3f} ± {np.std(better, ddof=1):.3f}", np.subtract(better, default[:2])
    paired = f"{difference.mean():+.3f} ± {difference.std(ddof=1):.3f}"
    assert second == f"| better | G | {f1} | {paired} | 2.50 ± 0.00 |  | 0.5 | 2 |"
    newer = write_age(tmp_path / "new/default/seed-0", 0.3)
    assert collect([plan], [tmp_path / "new"], tmp_path / "figures.csv") == 1, "the others' folders are gone"
    figures = read_figures(tmp_path / "figures.csv").set_index(["lever", "seed"])["macro_f1"]
    assert (len(figures), figures[(DEFAULT, 0)]) == (5, pytest.approx(newer, abs=1e-5))


def test_a_lever_with_less_data_predicts_the_other_images_of_the_default(runs: Path, tmp_path: Path) -> None:
    plan = make_plan({"name": "alone", "head": "age", "data": ["train"]}, age={"data": ["train", "portraits"]})
    default, alone = list_runs(plan)
    for run in (default, alone):
        shutil.copytree(runs / "age", run.runs(tmp_path) / "age")
    whole, folder = load_predictions(plan, default, tmp_path), alone.folder(tmp_path)
    with np.load(folder.validation) as saved:
        half = {name: array[: len(array) // 2] if name in whole else array for name, array in saved.items()}
    write_arrays(folder.validation, half | dict.fromkeys(("source", "shot"), half["path"]))
    found = select(load_predictions(plan, alone, tmp_path), whole["path"].tolist())
    for name in ("truth", "probabilities", "expected", "value"):
        assert found[name] == pytest.approx(whole[name], abs=1e-4)
    with patch("bench.ablate.figures.predict_task", side_effect=AssertionError("predicted again")):
        load_predictions(plan, alone, tmp_path)
        shutil.copy(runs / "gender" / "best.safetensors", folder.best)
        with pytest.raises(AssertionError, match="predicted again"):  # it is another head
            load_predictions(plan, alone, tmp_path)


def test_runs_are_scored_on_the_images_held_out_as_scikit_learn_does(runs: Path, faces: Path, tmp_path: Path) -> None:
    plan, file = make_plan(gender={"data": [], "held_out": "other"}), tmp_path / "figures.csv"
    shutil.copytree(runs / "gender", tmp_path / "default/seed-0/gender")
    with pytest.raises(InputError, match="give --data other=DIR"):
        collect([plan], [tmp_path], file)
    collect([plan], [tmp_path], file, {"other": str(faces / "train")})
    rows = read_table([faces / "train"])
    found = Ensemble.load(runs, views="plain").predict(rows["path"].tolist()).tasks["gender"].probabilities
    expected = f1_score(rows["gender"] == "female", found.argmax(axis=1), average="macro")
    figures = read_figures(file)
    assert figures["held_out_macro_f1"].tolist() == [pytest.approx(expected, abs=1e-5)]
    assert f"| {expected:.3f} |" in write_page([plan], figures)


def test_joint_figures_are_scikit_learn_s(tmp_path: Path) -> None:
    runs, file, rng = tmp_path / "default/seed-0", tmp_path / "figures.csv", np.random.default_rng(0)
    truths = [rng.integers(0, classes, 60) for classes in CLASSES.values()]
    probabilities = [rng.dirichlet(np.ones(classes), 60) for classes in CLASSES.values()]
    for task, truth, p in zip(CLASSES, truths, probabilities, strict=True):
        write_run(runs, task, truth, p)
    truth, answers = (m * 6 + g * 3 + a for m, g, a in (truths, [p.argmax(axis=1) for p in probabilities]))
    expected, right = (
        f1_score(truth, each, labels=range(18), average="macro", zero_division=0) for each in (answers, truth)
    )
    assert joint_macro_f1([run_folder(runs, task) for task in CLASSES]) == pytest.approx(expected)
    heads = {task: {"data": []} for task in CLASSES}
    heads["joint18"] = {"config": "configs/baselines/joint18.yaml", "data": []}
    plan = make_plan({"name": "times", "head": "joint18", "product": True}, **heads)
    collect([plan], [tmp_path], file)
    assert "times" not in set(read_figures(file)["lever"]), "the joint head is not finished"
    for joint, product in ((np.full((60, 18), 1 / 18), expected), (np.eye(18)[truth] + 1e-9, right)):
        write_run(runs, "joint18", truth, joint, minutes=2.0)
        collect([plan], [tmp_path], file)
        figures = read_figures(file).set_index(["head", "lever"])
        times, default = (figures.loc[("joint18", lever)] for lever in ("times", DEFAULT))
        assert times["macro_f1"] == pytest.approx(product, abs=1e-5)
        assert times["minutes"] == 3 * 1.5 + 2.0
        assert default["joint_macro_f1"] == default["macro_f1"]
