"""Margins chosen on validation people: found once, kept for the same heads, refused without images."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import ensemble.inference.exit_thresholds
from data.runtime.errors import InputError
from ensemble.ensemble import load_heads
from ensemble.files.predictions import read_arrays
from ensemble.inference.exit_thresholds import (
    FILE_NAME,
    ExitThresholds,
    choose_exit_thresholds,
    load_exit_thresholds,
)
from ensemble.inference.predictor import Result, Task, predict_tasks
from ensemble.inference.validation_images import find_validation_images, predict_validation
from heads.run.folder import write_arrays

Predict = Callable[[Mapping[str, Task], Sequence[Path]], Iterator[Result]]


@pytest.fixture
def own_runs(runs: Path, tmp_path: Path) -> Path:
    """Runs to write to: links to the heads, and their validation as it is."""
    for task in ("mask", "gender", "age"):
        (tmp_path / "runs" / task).mkdir(parents=True)
        (tmp_path / "runs" / task / "best.safetensors").symlink_to(runs / task / "best.safetensors")
        shutil.copy(runs / task / "validation.npz", tmp_path / "runs" / task)
    return tmp_path / "runs"


@pytest.fixture
def tasks(own_runs: Path, configs: Path) -> dict[str, Task]:
    return load_heads(configs / "joint.yaml", own_runs)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a handful of images could promise anything: one of them may change its answer."""
    monkeypatch.setattr(ensemble.inference.exit_thresholds, "allowed_disagreements", lambda images: 1)


PREDICT: Predict = partial(predict_tasks, device=torch.device("cpu"))


def never(tasks: Mapping[str, Task], paths: Sequence[Path]) -> Iterator[Result]:
    raise AssertionError("nothing had to be predicted")


@pytest.mark.usefixtures("few")
def test_what_was_promised_holds_on_the_validation_images(tasks: dict[str, Task]) -> None:
    choice = choose_exit_thresholds(tasks, PREDICT)
    assert choice.margins.keys() == tasks.keys()
    validation = read_arrays(tasks["mask"].files[0].parent / "validation.npz")
    assert choice.images == len(validation["path"])
    assert choice.agreement >= 1 - 1 / choice.images
    assert choice.passes < choice.all_passes == sum(len(task.views) for task in tasks.values())


@pytest.mark.usefixtures("few")
def test_they_are_found_once_for_the_same_heads_views_and_options(
    own_runs: Path, tasks: dict[str, Task]
) -> None:
    choice = load_exit_thresholds(own_runs, tasks, PREDICT, {"crops": None})
    assert load_exit_thresholds(own_runs, tasks, never, {"crops": None}) == choice
    mask = tasks["mask"]
    others = [
        (tasks | {"mask": replace(mask, heads=[replace(mask.heads[0], checksum="other")])}, {"crops": None}),
        (tasks | {"mask": replace(mask, merge="vote")}, {"crops": None}),
        (tasks, {"crops": "some"}),
    ]
    for changed, options in others:
        with pytest.raises(AssertionError, match="nothing had to be predicted"):
            load_exit_thresholds(own_runs, changed, never, options)
    assert load_exit_thresholds(own_runs, tasks, never, {"crops": None}) == choice


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 3}'])
def test_a_damaged_file_is_made_anew(content: str, own_runs: Path, tasks: dict[str, Task]) -> None:
    (own_runs / FILE_NAME).write_text(content)
    choice = load_exit_thresholds(own_runs, tasks, PREDICT, {})
    assert load_exit_thresholds(own_runs, tasks, never, {}) == choice
    kept = json.loads((own_runs / FILE_NAME).read_text())
    for damaged in ({"margins": 3}, {"margins": {"mask": "0.5"}}, {"passes": None}):
        text = json.dumps({key: entry | damaged for key, entry in kept.items()})
        (own_runs / FILE_NAME).write_text(text)
        with pytest.raises(AssertionError, match="nothing had to be predicted"):
            load_exit_thresholds(own_runs, tasks, never, {})


def test_too_few_images_promise_nothing_and_are_not_looked_at(tasks: dict[str, Task]) -> None:
    choice = choose_exit_thresholds(tasks, never)
    assert set(choice.margins.values()) == {1.0}
    assert choice.images < 598
    assert "all views are shown" in str(choice)


def rewritten(file: Path, **arrays: np.ndarray) -> None:
    write_arrays(file, read_arrays(file) | arrays)


def test_images_that_are_gone_are_told(tasks: dict[str, Task]) -> None:
    beside = {name: task.files[0].parent / "validation.npz" for name, task in tasks.items()}
    paths = read_arrays(beside["mask"])["path"]
    gone = np.char.replace(paths, ".jpg", ".gone")
    for file in beside.values():
        rewritten(file, path=gone)
    with pytest.raises(InputError, match=rf"{len(paths)} of {len(paths)} .* not there.*give --margin"):
        choose_exit_thresholds(tasks, PREDICT)
    rewritten(beside["age"], path=paths)
    with pytest.raises(InputError, match=r"no image is in the validation of all of them.*give --margin"):
        choose_exit_thresholds(tasks, PREDICT)
    write_arrays(beside["gender"], {"path": paths[:3], "probabilities": np.ones((2, 2))})
    with pytest.raises(InputError, match=r"gender/validation.npz: holds path \(3,\), probabilities \(2, 2\)"):
        choose_exit_thresholds(tasks, PREDICT)
    beside["gender"].unlink()
    with pytest.raises(InputError, match=r"gender/validation.npz: not there.*give --margin"):
        choose_exit_thresholds(tasks, PREDICT)


@pytest.mark.usefixtures("few")
def test_other_images_under_the_same_names_are_refused(tasks: dict[str, Task]) -> None:
    file = tasks["gender"].files[0].parent / "validation.npz"
    rewritten(file, probabilities=read_arrays(file)["probabilities"][:, ::-1])
    with pytest.raises(InputError, match="gender: 0% of its answers to its validation images"):
        choose_exit_thresholds(tasks, PREDICT)


def test_folds_answer_for_the_images_that_they_did_not_see(tasks: dict[str, Task], tmp_path: Path) -> None:
    held = read_arrays(tasks["mask"].files[0].parent / "validation.npz")
    half = len(held["path"]) // 2
    parts = [slice(0, half), slice(half, None)]
    beside = {name: [task.files[0].parent / "validation.npz"] for name, task in tasks.items()}
    beside["mask"] = [tmp_path / "0.npz", tmp_path / "1.npz"]
    for file, part in zip(beside["mask"], parts, strict=True):
        write_arrays(file, {name: held[name][part] for name in ("path", "probabilities")})
    mask = tasks["mask"]
    folded = tasks | {"mask": replace(mask, heads=[*mask.heads, *mask.heads])}
    validated = find_validation_images(beside)
    assert sorted(places[0] for places in validated.groups) == [(0,), (1,)]
    asked: list[tuple[int, int]] = []

    def predict(theirs: Mapping[str, Task], paths: Sequence[Path]) -> Iterator[Result]:
        asked.append((len(theirs["mask"].heads), len(paths)))
        return PREDICT(theirs, paths)

    pairs = predict_validation(validated, folded, predict)
    assert sorted(asked) == sorted([(1, half), (1, len(held["path"]) - half)])
    assert all(len(merged) == len(held["path"]) for merged, _ in pairs.values())


def test_a_folder_that_cannot_be_written_to_is_told(
    tasks: dict[str, Task], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    choice = load_exit_thresholds(tmp_path / "file", tasks, never, {})
    assert isinstance(choice, ExitThresholds)
    assert "the next run chooses margins again" in capsys.readouterr().out
