import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

import train_task
from data.images.decode import decode
from ensemble.config import load_tasks
from heads.build import build_target
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import load_tensors, save_tensors
from heads.train.recorder import RunRecorder
from heads.train.rows import split_rows

ROOT = Path(__file__).parents[2]
TASKS = ("mask", "gender", "age")


def validated(run: Path) -> set[str]:
    with np.load(run / "validation.npz") as saved:
        return set(saved["person"])


@pytest.mark.parametrize("task", TASKS)
def test_a_run_keeps_its_config_which_reads_back(task: str, runs: Path, configs: Path) -> None:
    assert load_config(TaskConfig, runs / task / "config.yaml") == load_config(
        TaskConfig, configs / f"{task}.yaml"
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_run_keeps_its_files(task: str, runs: Path) -> None:
    kept = {path.name for path in (runs / task).iterdir()}
    assert kept == {
        *("config.yaml", "best.safetensors", "last.safetensors", "history.csv", "metrics.json"),
        *("validation.npz", "tensorboard", "manifest.json"),
    }
    [events] = (runs / task / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents.")


def test_the_figures_of_a_run_are_those_of_its_validation_probabilities(runs: Path) -> None:
    from sklearn.metrics import f1_score

    for task in TASKS:
        metrics = json.loads((runs / task / "metrics.json").read_text())
        with (runs / task / "history.csv").open() as file:
            [epoch] = csv.DictReader(file)
        with np.load(runs / task / "validation.npz") as saved:
            answers, truth = saved["probabilities"].argmax(axis=1), saved["truth"]
            expected = f1_score(
                truth, answers, labels=range(len(saved["classes"])), average="macro", zero_division=0
            )
        assert metrics["macro_f1"] == float(epoch["macro_f1"]) == pytest.approx(expected)
        assert metrics["photographs"] == len(truth)


def test_the_events_hold_the_figures_and_a_image(runs: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(runs / "mask" / "tensorboard")).Reload()
    metrics = json.loads((runs / "mask" / "metrics.json").read_text())
    assert events.Scalars("macro_f1")[0].value == pytest.approx(metrics["macro_f1"])
    assert events.Tags()["images"] == ["predictions"]


@pytest.mark.parametrize("task", TASKS)
def test_a_checkpoint_says_what_it_is(task: str, runs: Path, configs: Path) -> None:
    tensors, described = load_tensors(runs / task / "best.safetensors")
    config = load_config(TaskConfig, configs / f"{task}.yaml")
    assert described["config"]["label"]["classes"] == config.label.classes
    assert described["config"]["pixels"] == config.pixels.model_dump()
    assert tensors["mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert tensors["std"].flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert described["versions"]["torch"] == version("torch")
    metrics = json.loads((runs / task / "metrics.json").read_text())
    assert described["validation"]["macro_f1"] == metrics["macro_f1"]


def test_heads_of_all_tasks_validate_the_same_people(runs: Path) -> None:
    assert validated(runs / "mask") == validated(runs / "gender") == validated(runs / "age")
    assert 3 <= len(validated(runs / "mask")) <= 6  # a fifth of 24


def test_a_further_data_folder_changes_nobody_s_fold(
    faces: Path, configs: Path, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "more" / "images").mkdir(parents=True)
    images = sorted((faces / "eval" / "images").iterdir())[:12]
    for image in images:
        shutil.copy(image, tmp_path / "more" / "images")
    lines = [f"{image.name},wear,p{index}\n" for index, image in enumerate(images)]
    (tmp_path / "more" / "labels.csv").write_text("path,mask,person\n" + "".join(lines))
    sources = [tmp_path / "more", faces / "train"]
    for task in TASKS:
        config = load_config(TaskConfig, configs / f"{task}.yaml")
        to_train, to_validate = split_rows(config, sources, build_target(config.label))
        people, held_out = set(to_train["person"]), set(to_validate["person"])
        assert people.isdisjoint(held_out)
        added = {person for person in people | held_out if person.startswith("more")}
        assert len(added) == (12 if task == "mask" else 0)
        assert held_out - added == validated(runs / task)


def test_a_correction_changes_nobody_s_fold(faces: Path, configs: Path, runs: Path, tmp_path: Path) -> None:
    for person in sorted(validated(runs / "gender")):
        fixes = tmp_path / "fixes.csv"
        fixes.write_text(f"person,column,value\n{person},gender,male\n{person},age,61\n")
        config = load_config(TaskConfig, configs / "gender.yaml").model_copy(update={"corrections": str(fixes)})
        _, to_validate = split_rows(config, [faces / "train"], build_target(config.label))
        assert set(to_validate["person"]) == validated(runs / "gender")
        assert set(to_validate["gender"][to_validate["person"] == person]) == {"male"}


def test_the_platform_s_variables_and_another_fold(
    faces: Path, runs: Path, train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(faces / "train" / "images"))
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path))
    train("mask", "--fold", 1)
    assert [path.relative_to(tmp_path) for path in tmp_path.glob("**/best.safetensors")] == [
        Path("mask/fold-1/best.safetensors")
    ]
    assert load_config(TaskConfig, tmp_path / "mask" / "fold-1" / "config.yaml").split.fold == 1
    assert validated(tmp_path / "mask" / "fold-1").isdisjoint(validated(runs / "mask"))


def test_flags_win_over_the_platform_s_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_CHANNEL_TRAIN", "theirs")
    monkeypatch.setenv("SM_MODEL_DIR", "their_runs")
    with patch.object(sys, "argv", ["train_task.py", "--task", "mask"]):
        args = train_task.parse()
    assert (args.data, args.runs) == ([Path("theirs")], Path("their_runs"))
    flags = ["--data", "a", "--data", "b", "--runs", "mine"]
    with patch.object(sys, "argv", ["train_task.py", "--task", "mask", *flags]):
        args = train_task.parse()
    assert (args.data, args.runs) == ([Path("a"), Path("b")], Path("mine"))


@pytest.fixture
def six_people(faces: Path, tmp_path: Path) -> Path:
    for person in sorted((faces / "train" / "images").iterdir())[:6]:
        shutil.copytree(person, tmp_path / "six" / "images" / person.name)
    return tmp_path / "six"


def test_an_interrupted_run_goes_on_to_the_same_weights(
    six_people: Path, train: Callable, tmp_path: Path
) -> None:
    arguments = ["mask", "--data", six_people, "--set", "training.epochs=2", "--set", "classifier.dropout=0.5"]
    train(*arguments, "--runs", tmp_path / "whole")
    keep = RunRecorder.after_epoch

    def keep_and_stop(*args: object) -> None:
        keep(*args)
        raise KeyboardInterrupt

    with patch.object(RunRecorder, "after_epoch", keep_and_stop), pytest.raises(KeyboardInterrupt):
        train(*arguments, "--runs", tmp_path / "parts")
    outcome = train(*arguments, "--runs", tmp_path / "parts", "--resume")
    assert "going on after epoch 1" in outcome.out
    for file in ("best.safetensors", "last.safetensors"):
        whole, _ = load_tensors(tmp_path / "whole" / "mask" / file)
        parts, _ = load_tensors(tmp_path / "parts" / "mask" / file)
        assert whole.keys() == parts.keys()
        for name, tensor in whole.items():
            np.testing.assert_array_equal(parts[name].numpy(), tensor.numpy(), err_msg=name)
    history = (tmp_path / "parts" / "mask" / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history] == ["epoch", "1", "2"]


def test_a_backbone_that_learnt_from_validation_people_is_told(
    six_people: Path, train: Callable, tmp_path: Path
) -> None:
    arguments = ["--data", six_people, "--runs", tmp_path, "--set", "split={folds: 2, seed: 0, strata: {}}"]
    train("mask", *arguments)
    for fold in (0, 1):
        told = train("gender", *arguments, "--set", "backbone.weights=run:mask", "--fold", fold).err
        seen = len(validated(tmp_path / "gender" / f"fold-{fold}") - validated(tmp_path / "mask"))
        assert seen == 3 * fold
        assert (f"{tmp_path / 'mask'}: this backbone was trained on 3 people whom the head" in told) == bool(
            seen
        )


def test_a_run_under_another_config_is_not_gone_on_with(
    six_people: Path, runs: Path, call: Callable, configs: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "mask").mkdir(parents=True)
    (tmp_path / "runs" / "mask" / "last.safetensors").symlink_to(runs / "mask" / "last.safetensors")
    arguments = ["--task", "mask", "--config", configs / "mask.yaml", "--data", six_people]
    outcome = call(train_task, *arguments, "--runs", tmp_path / "runs", "--resume", "--set", "optimiser.lr=0.5")
    assert outcome.code == 2
    lr = load_config(TaskConfig, configs / "mask.yaml").optimiser.lr
    assert f"optimiser.lr: found 0.5, expected {lr}" in outcome.err


@pytest.fixture
def begun(runs: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder of runs with a copy of the mask's, to go on with."""
    shutil.copytree(runs / "mask", tmp_path / "begun" / "mask")
    yield tmp_path / "begun"
    shutil.rmtree(tmp_path / "begun")  # a hundred megabytes


def test_a_run_goes_on_with_its_own_images_and_boxes_alone(
    begun: Path, faces: Path, six_people: Path, call: Callable, configs: Path, tmp_path: Path
) -> None:
    def resumed(*more: object) -> Any:
        given = ["--task", "mask", "--config", configs / "mask.yaml", "--runs", begun, "--resume"]
        return call(train_task, *given, *more)

    rows = ["path,x0,y0,x1,y1", *(f"{path},5,5,30,30" for path in (faces / "train" / "images").rglob("*.jpg"))]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    cropped = resumed("--data", faces / "train", "--boxes", tmp_path / "boxes.csv")
    assert cropped.code == 2
    first, *lines = cropped.err.splitlines()
    assert first.startswith(f"error: {begun / 'mask'}: began with other images or weights; give the same")
    assert [line.split(":")[0].strip() for line in lines] == [
        "--boxes, as they crop these images",
        "--box-margin",
    ]
    fewer = resumed("--data", six_people)
    assert fewer.code == 2
    assert [line.split(":")[0].split(" and their")[0].strip() for line in fewer.err.splitlines()[1:]] == [
        "images to train on",
        "images to validate on",
    ]
    (tmp_path / "moved").symlink_to(faces / "train")
    moved = resumed("--data", tmp_path / "moved")
    assert moved.code == 0, moved.err
    assert "going on after epoch 1" in moved.out


def test_kept_features_of_another_backbone_are_not_gone_on_with(
    begun: Path, six_people: Path, call: Callable, configs: Path, tmp_path: Path
) -> None:
    given = ["--task", "gender", "--config", configs / "gender.yaml", "--data", six_people, "--runs", begun]
    given += ["--cache", tmp_path / "cache", "--set", "training.feature_views=1"]
    given += ["--set", "backbone={weights: run:mask, freeze: all}"]
    assert call(train_task, *given).code == 0
    assert call(train_task, *given, "--resume").code == 0
    tensors, described = load_tensors(begun / "mask" / "best.safetensors")
    save_tensors(
        begun / "mask" / "best.safetensors",
        tensors | {"backbone.conv1.weight": -tensors["trunk.conv1.weight"]},
        described,
    )
    outcome = call(train_task, *given, "--resume")
    assert outcome.code == 2
    _, line = outcome.err.splitlines()[-2:]
    assert line.startswith("  frozen part of the backbone that training.feature_views are made with")


def test_what_would_do_nothing_or_harm_is_told_before_training(
    runs: Path, faces: Path, call: Callable, configs: Path, tmp_path: Path
) -> None:
    age = ["--task", "age", "--config", configs / "age.yaml", "--data", faces / "train", "--runs", tmp_path]
    idle = call(train_task, *age, "--set", "loss.terms=[{name: cross_entropy, gamma: 1}]")
    assert idle.code == 2
    assert idle.err.splitlines() == [
        f"error: {configs / 'age.yaml'}: settings that would do nothing",
        "  loss.terms: cross_entropy does not use gamma; leave it out",
    ]
    backbone = f"backbone={{weights: {runs / 'age' / 'best.safetensors'}, with_classifier: true}}"
    later = "label.distribution={low: 10, high: 110, sigma: 2.5}"
    strata = "split.strata={gendr: [], age: [30, 60]}"
    outcome = call(train_task, *age, "--set", backbone, "--set", later, "--set", strata)
    assert outcome.code == 2
    missing, first, line = outcome.err.splitlines()
    assert missing == (
        "split.strata: no source has a column 'gendr'; folds are not balanced by it, did you mean gender?"
    )
    assert "the outputs of its classifier mean others than this head's" in first
    assert line == "  label.distribution: found 0 to 100, expected 10 to 110"


def test_validation_sees_no_training_transform(
    faces: Path, configs: Path, tmp_path: Path, train: Callable
) -> None:
    """A training pipeline that blanks nearly everything leaves the validation images as they are."""
    seen = []

    class Watching(RunRecorder):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            seen.extend(zip(self.rows["path"].iloc[self._shown], self._images, strict=True))

        def open(self, *args: object) -> None:
            raise KeyboardInterrupt  # before anything is trained

    blank = "pixels.train=[{letterbox: {height: 48, width: 36}}, {cutout: {holes: 9, size: 1.0, p: 1.0}}]"
    with patch("heads.train.recorder.RunRecorder", Watching), pytest.raises(KeyboardInterrupt):
        train("mask", "--data", faces / "train", "--runs", tmp_path, "--set", blank)
    from data.transforms.pipeline import Pipeline

    still = Pipeline(load_config(TaskConfig, configs / "mask.yaml").pixels.evaluate)
    assert len(seen) == 12
    for path, pixels in seen:
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), still(decode(Path(path)), (0, 0, 0)))


SCRIPTS = ("train_task.py", "combine.py", "evaluate.py")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_torch(script: str) -> None:
    program = (
        f"import runpy, sys; sys.argv = [{script!r}, '--help']\n"
        f"try: runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, sorted({'torch', 'pandas', 'albumentations'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize("config", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_yaml_reads_and_opens_with_the_command_that_runs_it(config: Path) -> None:
    first = config.read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"# (make|python) ", first)
    if config.stem == "joint":
        assert list(load_tasks(config)) == ["mask", "gender", "age"]
    elif config.parent.name == "configs":
        assert load_config(TaskConfig, config).task == config.stem
        assert f"train_task.py --task {config.stem} " in first
    else:
        assert load_config(TaskConfig, config).training.epochs >= 1


def test_a_cache_changes_how_long_it_takes_and_not_what_comes_out(
    faces: Path, train: Callable[..., Any], tmp_path: Path
) -> None:
    steps = "pixels.train=[{letterbox: {height: 48, width: 36}}, hflip]"
    common = ("--data", faces / "train", "--set", steps, "--set", "training.seed=3")
    plain = train("mask", *common, "--runs", tmp_path / "plain")
    assert "decoding" not in plain.out
    first = train("mask", *common, "--runs", tmp_path / "first", "--cache", tmp_path / "cache")
    assert "decoding 168 images once" in first.out
    second = train("gender", *common, "--runs", tmp_path / "second", "--cache", tmp_path / "cache")
    assert "decoding" not in second.out
    one, two = (load_tensors(tmp_path / name / "mask" / "best.safetensors")[0] for name in ("plain", "first"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_cache_needs_one_working_size(
    faces: Path, call: Callable[..., Any], configs: Path, tmp_path: Path
) -> None:
    steps = "pixels.train=[{resize: {height: 32, width: 24}}]"
    told = call(
        train_task,
        "--task",
        "mask",
        "--config",
        configs / "mask.yaml",
        "--data",
        faces / "train",
        "--runs",
        tmp_path / "runs",
        "--cache",
        tmp_path / "cache",
        "--set",
        steps,
    )
    assert told.code == 2
    assert "letterbox" in told.err


def test_several_heads_by_one_command_a_failing_one_takes_no_other_along(
    faces: Path, configs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "configs"
    shutil.copytree(configs, folder)
    # Asked for before the backbone that it starts from.
    tasks = ("age", "age_backbone", "gender")
    load_age = (folder / "age.yaml").read_text().replace("weights: random", "weights: run:age_backbone")
    (folder / "age.yaml").write_text(load_age)
    (folder / "gender.yaml").write_text("task: gender\nlabl: {}\n")
    command = [
        sys.executable,
        "train_task.py",
        "--task",
        *tasks,
        "--config",
        folder,
        "--runs",
        tmp_path / "runs",
    ]
    done = subprocess.run(
        [*map(str, command), "--data", str(faces / "train")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "age: done",
        "age_backbone: done",
        "gender: failed: wrong input (exit code 2)",
    ]
    assert f"backbone from {tmp_path / 'runs/age_backbone/best.safetensors'}" in done.stdout
    assert "labl: unknown key" in done.stderr
    assert (tmp_path / "runs/age/metrics.json").is_file()


def test_one_file_is_no_config_for_several_heads(
    call: Callable[..., Any], configs: Path, tmp_path: Path
) -> None:
    outcome = call(
        train_task,
        "--task",
        "age",
        "mask",
        "--config",
        configs / "age.yaml",
        "--data",
        tmp_path,
        "--runs",
        tmp_path,
    )
    assert outcome.code == 2
    assert "one file for several heads, expected the folder of theirs" in outcome.err
