"""Exit thresholds: within the budget of changed codes, saved for the same heads, refused without images."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from data.audit.validation import read_validation
from data.runtime.errors import InputError
from ensemble import Ensemble
from ensemble.files.predictions import Predictions, TaskOutput
from ensemble.inference import exit_thresholds
from ensemble.inference.early_exit import needs_all_views
from ensemble.inference.exit_thresholds import (
    choose_exit_thresholds,
    choose_thresholds,
    choose_thresholds_with_test,
    count_disagreements,
    hold_out,
    load_exit_thresholds,
)
from ensemble.inference.load import load_tasks
from ensemble.inference.predictor import Task
from heads.run.folder import write_arrays


def outputs_of(seed: int, images: int, classes: tuple[int, ...] = (3, 2, 3)) -> dict[str, TaskOutput]:
    """Two views' probabilities for each of some tasks; some classes change from one to their mean."""
    rng = np.random.default_rng(seed)
    outputs = {}
    for task, count in enumerate(classes):
        logits = rng.normal(0, 2, (images, count))
        views = np.exp(logits + rng.normal(0, 0.7, (2, images, count)))
        views = (views / views.sum(axis=2, keepdims=True)).astype(np.float32)
        outputs[str(task)] = TaskOutput(views.mean(axis=0), views[0])
    return outputs


@pytest.mark.parametrize("images", [0, 1, 597, 598, 2604, 20_000, 400_000])
def test_the_budget_is_the_binomial_bound(images: int) -> None:
    found = exit_thresholds.allowed_disagreements(images)
    assert found == -1 or binom.cdf(found, images, 0.005) <= 0.05
    assert binom.cdf(found + 1, images, 0.005) > 0.05


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 300))
def test_no_more_codes_change_than_the_budget_allows(seed: int, budget: int, images: int) -> None:
    outputs = outputs_of(seed, images)
    thresholds = choose_thresholds(outputs, {"0": 1, "1": 3, "2": 2}, budget)
    assert count_disagreements(outputs, thresholds) <= budget
    assert all(0 <= threshold <= 1 for threshold in thresholds.values())


@given(st.integers(0, 10**6), st.integers(0, 12))
def test_for_one_task_no_threshold_saves_more(seed: int, budget: int) -> None:
    outputs = outputs_of(seed, 120, (3,))
    threshold = choose_thresholds(outputs, {"0": 1}, budget)["0"]
    identity = outputs["0"].first_view().astype(np.float64)
    second, first = np.sort(identity, axis=1)[:, -2:].T
    possible = [t for t in {0.0, 1.0, *(first - second)} if count_disagreements(outputs, {"0": t}) <= budget]
    assert needs_all_views(identity, threshold).sum() == min(needs_all_views(identity, t).sum() for t in possible)


def test_the_promise_holds_for_new_images_in_95_of_100_choices() -> None:
    people, choices = np.arange(2400).astype(str), 40
    test_rows, broken, passes = hold_out(people.tolist()), 0, []
    assert 1500 < test_rows.sum() < 1700
    for seed in range(choices):
        sample, population = outputs_of(seed, 2400), outputs_of(seed + choices, 10_000)
        thresholds = choose_thresholds_with_test(sample, dict.fromkeys(sample, 1), test_rows)
        broken += count_disagreements(population, thresholds) > 0.005 * 10_000
        passes.append(np.mean([needs_all_views(each.first_view(), thresholds[task]) for task, each in sample.items()]))
    assert broken <= binom.ppf(0.999, choices, 0.05)
    assert np.mean(passes) < 0.6


def test_a_code_that_two_tasks_change_counts_once_and_the_slower_task_exits_first() -> None:
    identity = np.array([[0.9, 0.1]] * 9 + [[0.7, 0.3]], dtype=np.float32)
    merged = np.array([[0.9, 0.1]] * 9 + [[0.4, 0.6]], dtype=np.float32)
    outputs = {"a": TaskOutput(merged, identity), "b": TaskOutput(merged, identity)}
    assert choose_thresholds(outputs, {"a": 1, "b": 1}, 1) == {"a": 0.0, "b": 0.0}
    assert all(0.39 < t < 0.8 for t in choose_thresholds(outputs, {"a": 1, "b": 1}, 0).values())
    [output] = outputs_of(1, 400, (3,)).values()
    thresholds = choose_thresholds({"fast": output, "slow": output}, {"fast": 1, "slow": 50}, 3)
    assert thresholds["slow"] <= thresholds["fast"]


@pytest.fixture
def own_runs(runs: Path, tmp_path: Path) -> Path:
    """Runs to write to: links to the heads, and copies of their validation."""
    for task in ("mask", "gender", "age"):
        (tmp_path / "runs" / task).mkdir(parents=True)
        (tmp_path / "runs" / task / "best.safetensors").symlink_to(runs / task / "best.safetensors")
        shutil.copy(runs / task / "validation.npz", tmp_path / "runs" / task)
    return tmp_path / "runs"


@pytest.fixture
def tasks(own_runs: Path, configs: Path) -> dict[str, Task]:
    return load_tasks(own_runs, configs / "joint.yaml")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow one changed code on a handful of images."""
    monkeypatch.setattr(exit_thresholds, "allowed_disagreements", lambda images: 1)


def predict(tasks: dict[str, Task], paths: Sequence[str]) -> Iterator[Predictions]:
    return Ensemble(tasks).stream(paths)


def never(tasks: dict[str, Task], paths: Sequence[str]) -> Iterator[Predictions]:
    raise AssertionError("nothing had to be predicted")


def changed(tasks: dict[str, Task], **fields: object) -> dict[str, Task]:
    return {**tasks, "mask": replace(tasks["mask"], **fields)}


@pytest.mark.usefixtures("few")
def test_thresholds_are_chosen_once_for_the_same_heads_views_and_options(
    own_runs: Path, tasks: dict[str, Task]
) -> None:
    chosen = load_exit_thresholds(own_runs, tasks, predict, {"crops": None})
    assert chosen.margins.keys() == tasks.keys()
    assert chosen.images == hold_out(read_validation(own_runs / "mask" / "validation.npz")["person"]).sum()
    assert chosen.agreement >= 1 - 1 / chosen.images
    assert chosen.passes < chosen.all_passes == sum(len(task.views) for task in tasks.values())
    assert load_exit_thresholds(own_runs, tasks, never, {"crops": None}) == chosen
    [head] = tasks["mask"].heads
    for other, options in (
        (changed(tasks, heads=[replace(head, checksum="other")]), {"crops": None}),
        (changed(tasks, merge="vote"), {"crops": None}),
        (tasks, {"crops": "some"}),
    ):
        with pytest.raises(AssertionError, match="nothing had to be predicted"):
            load_exit_thresholds(own_runs, other, never, options)
    [(key, entry)] = json.loads((own_runs / exit_thresholds.FILE_NAME).read_text()).items()
    assert list(entry) == ["margins", "photographs", "agreement", "passes", "all_passes"]  # as version 0.1
    wrong = [{key: entry | each} for each in ({"margins": 3}, {"margins": {"mask": "1"}}, {"passes": None})]
    for damaged in ("", "{", "[]", '{"key": 3}', *map(json.dumps, wrong)):
        (own_runs / exit_thresholds.FILE_NAME).write_text(damaged)
        with pytest.raises(AssertionError, match="nothing had to be predicted"):
            load_exit_thresholds(own_runs, tasks, never, {"crops": None})


def test_too_few_images_use_all_views(
    tasks: dict[str, Task], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()  # no folder to write to
    chosen = load_exit_thresholds(tmp_path / "file", tasks, never, {})
    assert set(chosen.margins.values()) == {1.0}
    assert "do not ensure for fewer that 99.5% of the joint codes" in str(chosen)
    assert "the next run chooses margins again" in capsys.readouterr().err


def rewrite(file: Path, **arrays: np.ndarray) -> None:
    write_arrays(file, read_validation(file) | arrays)


@pytest.mark.usefixtures("few")
def test_missing_or_other_validation_images_are_refused(own_runs: Path, tasks: dict[str, Task]) -> None:
    files = {task: own_runs / task / "validation.npz" for task in tasks}
    arrays = read_validation(files["gender"])
    rewrite(files["gender"], probabilities=arrays["probabilities"][:, ::-1])
    with pytest.raises(InputError, match="gender: 0% of its classes on its validation images"):
        choose_exit_thresholds(tasks, predict)
    paths = arrays["path"]
    for file in files.values():
        rewrite(file, path=np.char.replace(paths, ".jpg", ".gone"))
    with pytest.raises(InputError, match=rf"{len(paths)} of {len(paths)} .* not there.*give --margin"):
        choose_exit_thresholds(tasks, predict)
    rewrite(files["age"], path=paths)
    with pytest.raises(InputError, match=r"no image is in the validation of all of them.*give --margin"):
        choose_exit_thresholds(tasks, predict)
    files["gender"].unlink()
    with pytest.raises(InputError, match=r"gender/validation.npz: not there.*give --margin"):
        choose_exit_thresholds(tasks, predict)


@pytest.mark.usefixtures("few")
def test_a_fold_predicts_the_images_that_it_was_not_trained_on(tasks: dict[str, Task], tmp_path: Path) -> None:
    [head] = tasks["mask"].heads
    arrays = read_validation(head.run.validation)
    half, count = len(arrays["path"]) // 2, len(arrays["path"])
    folds = []
    for number, part in enumerate((slice(0, half), slice(half, None))):
        (tmp_path / str(number)).mkdir()
        rows = {name: arrays[name][part] for name in ("path", "person", "shot", "truth", "probabilities")}
        folds.append(replace(head, file=tmp_path / str(number) / "best.safetensors"))
        write_arrays(folds[-1].run.validation, arrays | rows)
    asked: list[tuple[int, int]] = []

    def counted(subset: dict[str, Task], paths: Sequence[str]) -> Iterator[Predictions]:
        asked.append((len(subset["mask"].heads), len(paths)))
        return predict(subset, paths)

    assert choose_exit_thresholds(changed(tasks, heads=folds), counted).images == hold_out(arrays["person"]).sum()
    assert sorted(asked) == sorted([(1, half), (1, count - half)])
