from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from data.runtime.errors import InputError
from ensemble.metrics.calibration import scale
from ensemble.report.load.runs import find_task_runs, read_run, validation_temperature
from ensemble.report.render.plots import history_figure
from heads.run.checkpoint import load_tensors
from heads.run.folder import RunFolder, describe_machine


def test_a_run_tells_its_curves_config_versions_time_and_machine(runs: Path) -> None:
    [found] = find_task_runs(runs, "age")
    run = read_run(found, "age")
    history = pd.read_csv(found.history)
    assert run.history["train_loss"] == history["train_loss"].tolist()
    assert run.config == found.config.read_text()
    assert run.versions == load_tensors(found.best)[1]["versions"]
    assert run.machine == describe_machine()
    assert {"system", "processor", "cores"} <= run.machine.keys()
    assert run.minutes == pytest.approx(history["seconds"].sum() / 60, abs=0.006)
    assert run.best["macro_f1"] == pytest.approx(history["macro_f1"].max())


def test_curves_join_the_epochs_that_were_validated() -> None:
    nan = float("nan")
    history = {
        "epoch": [1.0, 2.0, 3.0, 4.0],
        "train_loss": [4.0, 3.0, 2.0, 1.0],
        "macro_f1": [nan, 0.5, nan, 0.7],
    }
    loss, f1 = [axes.lines[0].get_xydata().tolist() for axes in history_figure(history, None).axes]
    assert loss == [[1, 4], [2, 3], [3, 2], [4, 1]]
    assert f1 == [[2, 0.5], [4, 0.7]]


def test_the_temperature_has_the_least_log_loss_on_the_validation_people_of_all_folds(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    folders = [RunFolder(tmp_path / "age" / f"fold-{fold}") for fold in (0, 1)]
    kept = []
    for run in folders:
        run.folder.mkdir(parents=True)
        run.best.touch()
        probabilities = generator.dirichlet(np.ones(3), 300).astype(np.float32)
        truth = np.array([generator.choice(3, p=row / row.sum()) for row in probabilities.astype(float) ** 2])
        np.savez(run.validation, probabilities=probabilities, truth=truth)
        kept.append((probabilities, truth))
    assert find_task_runs(tmp_path, "age") == folders
    temperature = validation_temperature(folders)
    head, truth = (np.concatenate(each) for each in zip(*kept, strict=True))
    assert temperature == pytest.approx(0.5, rel=0.2)
    best = log_loss(truth, scale(head, temperature))
    assert all(log_loss(truth, scale(head, temperature * other)) > best for other in (0.97, 1.03))


def test_a_run_whose_files_are_gone_is_told(runs: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.best.symlink_to(runs / "age" / "best.safetensors")
    with pytest.raises(InputError, match="expected a run of train_task"):
        read_run(run, "age")
    with pytest.raises(
        InputError, match=r"validation\.npz: cannot be read .* expected what train_task\.py wrote"
    ):
        validation_temperature([run])
    run.config.write_text("task: age\n")
    for history, metrics in (("a\n1\n", "[]"), ("a\nx\n", "{}"), ("a\n1\n", '{"mae": null}')):
        run.history.write_text(history)
        run.metrics.write_text(metrics)
        with pytest.raises(InputError, match=r"cannot be read .* expected a run of train_task\.py"):
            read_run(run, "age")
    np.savez(run.validation, other=np.zeros(1))
    with pytest.raises(InputError, match="holds other; expected probabilities and truth"):
        validation_temperature([run])
