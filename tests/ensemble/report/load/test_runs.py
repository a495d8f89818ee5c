"""What a report reads of runs: their history, temperatures, and the images that all heads were validated on."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.runtime.arrays import write_arrays
from data.runtime.errors import InputError
from ensemble.joint import load_labels
from ensemble.report.load.load_evaluation import load_evaluation
from ensemble.report.load.runs import find_task_runs, load_validation, read_run, validation_temperature
from heads.config.task import Label
from heads.objective.calibration import fit_temperature
from heads.run.checkpoint import load_tensors, save_tensors
from heads.run.folder import RunFolder, run_folder


@pytest.fixture
def labels(configs: Path) -> dict[str, Label]:
    return load_labels(configs / "joint.yaml")


@pytest.fixture
def own(runs: Path, labels: dict[str, Label], tmp_path: Path) -> Path:
    """The runs in a folder that a test may change; checkpoints are links."""
    for run in (run_folder(runs, task) for task in labels):
        folder = tmp_path / "runs" / run.folder.name
        folder.mkdir(parents=True)
        for path in (run.best, run.config, run.history, run.metrics):
            (folder / path.name).symlink_to(path)
        shutil.copy(run.validation, folder)
    return tmp_path / "runs"


def arrays(runs: Path, task: str) -> dict[str, np.ndarray]:
    with np.load(run_folder(runs, task).validation) as held:
        return dict(held)


def test_a_run_has_its_history_config_versions_duration_and_machine(runs: Path) -> None:
    [found] = find_task_runs(runs, "age")
    run, history = read_run(found, runs), pd.read_csv(found.history)
    assert (run.name, run.history) == ("age", history.astype(float).to_dict("list"))
    assert run.config == found.config.read_text()
    description = load_tensors(found.best)[1]
    assert (run.versions, run.machine) == (description["versions"], description["machine"])
    assert {"system", "processor", "cores"} <= run.machine.keys()
    assert run.minutes == pytest.approx(history["seconds"].sum() / 60, abs=0.006)
    assert run.best["macro_f1"] == pytest.approx(history["macro_f1"].max())
    assert {"calibration_error", "calibration_error_scaled"} < run.best.keys()


def test_a_run_with_broken_files_is_refused(runs: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(InputError, match=r"mask/best\.safetensors: no such file, expected the run of mask"):
        find_task_runs(tmp_path, "mask")
    with pytest.raises(InputError, match=r"best\.safetensors: "):
        validation_temperature([run], Label(column="mask", classes=["wear", "normal"]))
    run.best.symlink_to(runs / "age" / "best.safetensors")
    for history, metrics in ((None, "{}"), ("a\n1\n", "[]"), ("a\nx\n", "{}"), ("a\n1\n", '{"mae": null}')):
        run.config.write_text("task: age\n")
        run.metrics.write_text(metrics)
        if history:
            run.history.write_text(history)
        with pytest.raises(InputError, match=r"cannot be read .* expected a run of train_task\.py"):
            read_run(run, tmp_path)


def test_temperatures_are_those_of_the_validation_sets(runs: Path, labels: dict[str, Label], own: Path) -> None:
    for name in ("a.csv", "answers.csv"):
        (own / name).write_text("ImageID,ans\na,0\n")
    evaluation, trained, _ = load_evaluation(labels, own / "a.csv", own / "answers.csv", runs=runs)
    for task, temperature in evaluation.temperatures.items():
        held = arrays(runs, task)
        assert temperature == fit_temperature(held["probabilities"], held["truth"])
    assert [run.name for run in trained] == list(labels) == list(evaluation.temperatures)
    other = labels | {"age": labels["age"].model_copy(update={"borders": [25.0, 60.0]})}
    with pytest.raises(InputError, match=r"found the borders \[30\.0, 60\.0\], expected \[25\.0, 60\.0\]"):
        load_evaluation(other, own / "a.csv", own / "answers.csv", runs=runs)


def test_folds_are_joined(own: Path, labels: dict[str, Label]) -> None:
    whole, _, _ = load_validation(own, labels)
    [number] = whole.numbers
    assert (number.name, number.task_borders) == ("age", {"age": [30, 60]})
    assert np.digitize(number.value, [30, 60]).tolist() == (whole.truth % 3).tolist()
    held, count = arrays(own, "age"), len(whole.ids)
    for fold, rows in enumerate((slice(0, count // 2), slice(count // 2, None))):
        run = run_folder(own, "age", fold)
        shutil.copytree(own / "age", run.folder, symlinks=True, ignore=shutil.ignore_patterns("fold-*"))
        write_arrays(run.validation, {n: a[rows] if a.shape[:1] == (count,) else a for n, a in held.items()})
    folds, runs, _ = load_validation(own, labels)
    assert (folds.ids, folds.truth.tolist()) == (whole.ids, whole.truth.tolist())
    assert folds.predicted.tolist() == whole.predicted.tolist()
    assert [run.name for run in runs] == ["mask", "gender", "age/fold-0", "age/fold-1"]
    temperature = validation_temperature(find_task_runs(own, "age"), labels["age"])
    assert temperature == pytest.approx(fit_temperature(held["probabilities"], held["truth"]))
    averaged = [RunFolder(own / name) for name in ("first", "second")]  # of all folds: validated on nobody
    for run, stored in zip(averaged, (0.5, 2.0), strict=True):
        run.folder.mkdir()
        save_tensors(run.best, {}, {"temperature": stored})
    assert validation_temperature(averaged, labels["age"]) == pytest.approx(1.0)
    write_arrays(run_folder(own, "age", 1).validation, held)
    with pytest.raises(InputError, match=f"age: {count // 2} of them, such as "):
        load_validation(own, labels)


def test_heads_without_a_common_image_or_of_another_label_are_refused(own: Path, labels: dict[str, Label]) -> None:
    file, held = run_folder(own, "gender").validation, arrays(own, "gender")
    write_arrays(file, held | {"path": np.array([f"/elsewhere{path}" for path in held["path"]])})
    with pytest.raises(InputError, match="no image is in the validation sets of mask, gender, age"):
        load_validation(own, labels)
    write_arrays(file, held | {"classes": np.array(["female", "male"])})
    with pytest.raises(InputError, match=r"found the classes \['female', 'male'\], expected \['male', 'female'\]"):
        load_validation(own, labels)
