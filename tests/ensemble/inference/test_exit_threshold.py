"""The exit threshold: within the budget of changed codes, saved for the same heads, refused without images."""

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
from data.runtime.arrays import write_arrays
from data.runtime.errors import InputError
from ensemble import Ensemble
from ensemble.files.predictions import Predictions, TaskOutput
from ensemble.inference import exit_threshold
from ensemble.inference.early_exit import needs_all_views
from ensemble.inference.exit_threshold import (
    allowed_disagreements,
    choose_exit_threshold,
    choose_threshold,
    count_disagreements,
    load_exit_threshold,
)
from ensemble.inference.load import load_tasks
from ensemble.inference.predictor import Task


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
    found = exit_threshold.allowed_disagreements(images)
    assert found == -1 or binom.cdf(found, images, 0.005) <= 0.05
    assert binom.cdf(found + 1, images, 0.005) > 0.05


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 300))
def test_the_smallest_threshold_that_changes_no_more_codes_than_the_budget(seed: int, budget: int, images: int) -> None:
    outputs = outputs_of(seed, images)
    threshold = choose_threshold(outputs, budget)
    assert count_disagreements(outputs, threshold) <= budget
    assert threshold == 0 or count_disagreements(outputs, np.nextafter(threshold, 0)) > budget
    gaps = np.concatenate([np.diff(np.sort(each.first_view(), axis=1)[:, -2:])[:, 0] for each in outputs.values()])
    counts = [count_disagreements(outputs, each) for each in sorted(gaps.astype(float))[:: max(len(gaps) // 20, 1)]]
    assert counts == sorted(counts, reverse=True)  # what the sequence of tests rests on


def test_the_promise_holds_for_new_images_in_95_of_100_choices() -> None:
    images, choices, broken, passes = 1600, 100, 0, []
    for seed in range(choices):
        sample, population = outputs_of(seed, images), outputs_of(seed + choices, 10_000)
        threshold = choose_threshold(sample, allowed_disagreements(images))
        broken += count_disagreements(population, threshold) > 0.005 * 10_000
        passes.append(np.mean([needs_all_views(each.first_view(), threshold) for each in sample.values()]))
    assert broken <= binom.ppf(0.999, choices, 0.05)
    assert np.mean(passes) < 0.6


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
    """Choose a threshold on a handful of images: it may change no code."""
    monkeypatch.setattr(exit_threshold, "allowed_disagreements", lambda images: 0)


def predict(tasks: dict[str, Task], paths: Sequence[str]) -> Iterator[Predictions]:
    return Ensemble(tasks).stream(paths)


def never(tasks: dict[str, Task], paths: Sequence[str]) -> Iterator[Predictions]:
    raise AssertionError("nothing had to be predicted")


def changed(tasks: dict[str, Task], **fields: object) -> dict[str, Task]:
    return {**tasks, "mask": replace(tasks["mask"], **fields)}


@pytest.mark.usefixtures("few")
def test_it_is_chosen_once_for_the_same_heads_views_and_options(own_runs: Path, tasks: dict[str, Task]) -> None:
    chosen = load_exit_threshold(own_runs, tasks, predict, {"crops": None})
    assert 0 < chosen.margin < 1
    assert chosen.images == len(read_validation(own_runs / "gender" / "validation.npz")["person"])
    assert chosen.agreement == 1
    assert chosen.passes < chosen.all_passes == sum(len(task.views) for task in tasks.values())
    assert load_exit_threshold(own_runs, tasks, never, {"crops": None}) == chosen
    [head] = tasks["mask"].heads
    for other, options in (
        (changed(tasks, heads=[replace(head, checksum="other")]), {"crops": None}),
        (changed(tasks, merge="vote"), {"crops": None}),
        (tasks, {"crops": "some"}),
    ):
        with pytest.raises(AssertionError, match="nothing had to be predicted"):
            load_exit_threshold(own_runs, other, never, options)
    [(key, entry)] = json.loads((own_runs / exit_threshold.FILE_NAME).read_text()).items()
    assert list(entry) == ["margin", "images", "agreement", "passes", "all_passes"]
    wrong = [{key: entry | each} for each in ({"margin": "1"}, {"margin": {"mask": 1.0}}, {"passes": None})]
    for damaged in ("", "{", "[]", '{"key": 3}', *map(json.dumps, wrong)):
        (own_runs / exit_threshold.FILE_NAME).write_text(damaged)
        with pytest.raises(AssertionError, match="nothing had to be predicted"):
            load_exit_threshold(own_runs, tasks, never, {"crops": None})


def test_without_further_views_nothing_is_chosen(tasks: dict[str, Task]) -> None:
    single = {name: replace(task, views={"identity": task.views["identity"]}) for name, task in tasks.items()}
    chosen = choose_exit_threshold(single, never)
    assert chosen.margin == 0
    assert "no head has further views" in str(chosen)


def test_too_few_images_use_all_views(
    tasks: dict[str, Task], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()  # no folder to write to
    chosen = load_exit_threshold(tmp_path / "file", tasks, never, {})
    assert chosen.margin == 1
    assert "do not ensure for fewer that 99.5% of the joint codes" in str(chosen)
    assert "the next run chooses again" in capsys.readouterr().err


def rewrite(file: Path, **arrays: np.ndarray) -> None:
    write_arrays(file, read_validation(file) | arrays)


@pytest.mark.usefixtures("few")
def test_missing_or_other_validation_images_are_refused(own_runs: Path, tasks: dict[str, Task]) -> None:
    files = {task: own_runs / task / "validation.npz" for task in tasks}
    arrays = read_validation(files["gender"])
    rewrite(files["gender"], probabilities=arrays["probabilities"][:, ::-1])
    with pytest.raises(InputError, match="gender: 0% of its classes on its validation images"):
        choose_exit_threshold(tasks, predict)
    paths = arrays["path"]
    for file in files.values():
        rewrite(file, path=np.char.replace(paths, ".jpg", ".gone"))
    with pytest.raises(InputError, match=rf"{len(paths)} of {len(paths)} .* not there.*give --margin"):
        choose_exit_threshold(tasks, predict)
    rewrite(files["age"], path=paths)
    with pytest.raises(InputError, match=r"no image is in the validation of all of them.*give --margin"):
        choose_exit_threshold(tasks, predict)
    files["gender"].unlink()
    with pytest.raises(InputError, match=r"gender/validation.npz: not there.*give --margin"):
        choose_exit_threshold(tasks, predict)


@pytest.mark.usefixtures("few")
def test_a_fold_predicts_the_images_that_it_was_not_trained_on(tasks: dict[str, Task], tmp_path: Path) -> None:
    [head] = tasks["mask"].heads
    arrays = read_validation(head.run.validation)
    half, count = len(arrays["path"]) // 2, len(arrays["path"])
    folds = []
    for number, part in enumerate((slice(0, half), slice(half, None))):
        (tmp_path / str(number)).mkdir()
        rows = {name: arrays[name][part] for name in ("path", "person", "source", "shot", "truth", "probabilities")}
        folds.append(replace(head, file=tmp_path / str(number) / "best.safetensors"))
        write_arrays(folds[-1].run.validation, arrays | rows)
    asked: list[tuple[int, int]] = []

    def counted(subset: dict[str, Task], paths: Sequence[str]) -> Iterator[Predictions]:
        asked.append((len(subset["mask"].heads), len(paths)))
        return predict(subset, paths)

    assert choose_exit_threshold(changed(tasks, heads=folds), counted).images == count
    assert sorted(asked) == sorted([(1, half), (1, count - half)])
