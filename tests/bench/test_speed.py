"""Epochs are timed by their lines; a page keeps its other sections."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.speed import __main__ as speed
from bench.speed.results import machine_header, merge_page
from bench.speed.running import Process, python, run
from bench.speed.training import OURS, PLAIN, TASKS, Recipe, write_section
from data.runtime.errors import InputError
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from tests.conftest import ROOT, Outcome

EPOCHS = """
import time
print("warming up")
for number, head in ((1, "age"), (1, "mask"), (2, "age")):
    time.sleep(0.2)
    print(f"{prefix}epoch {number}: train_loss 0.5, macro_f1 0.{number}5, accuracy 0.9")
"""


def test_epochs_are_timed_by_their_lines() -> None:
    ran = run(python("-c", EPOCHS.replace("{prefix}", "")))
    assert ran.macro_f1 == [0.15, 0.15, 0.25]
    assert min(ran.epochs) >= 0.1  # lines come a little late, each by its own delay
    assert 0 < ran.ends[0] < ran.ends[2] <= ran.seconds
    assert Process(9.0, [1.0, 3.0, 6.0], [0.1, 0.2, 0.3]).epochs == [2.0, 3.0]
    side_by_side = run(python("-c", EPOCHS.replace("{prefix}", "{head} | ")))
    assert [side_by_side.heads[name].macro_f1 for name in ("age", "mask")] == [[0.15, 0.25], [0.15]]
    assert side_by_side.macro_f1 == []


def make_round(macro_f1: list[float], starts: list[float], epoch: float) -> Process:
    """Four heads with one curve and epochs of one length, which start at these seconds."""
    ends = [[start + epoch * (1 + number) for number in range(len(macro_f1))] for start in starts]
    heads = {task: Process(ends=each, macro_f1=macro_f1) for task, each in zip(TASKS, ends, strict=True)}
    return Process(max(map(max, ends)), heads=heads)


def test_a_loop_reaches_the_common_macro_f1_when_its_last_head_does() -> None:
    plain = make_round([0.5, 0.7, 0.9], [0, 30, 60, 90], 10)
    ours = make_round([0.4, 0.6, 0.7], [0, 24, 24, 0], 8)
    text = write_section(Recipe(Path(), Path(), Path()), {PLAIN: [plain], OURS: [ours]})
    cells = [[cell.strip() for cell in line.split("|")][2:7] for line in text.splitlines()[-2:]]
    assert cells[0] == ["120 (120 to 120)", "1.00x", "110 (110 to 110)", "1.00x", "0.9 (0.9 to 0.9)"]
    assert cells[1] == ["48 (48 to 48)", "2.50x", "48 (48 to 48)", "2.29x", "0.7 (0.7 to 0.7)"]
    assert "-0.200 (-0.200 to -0.200)" in text


def test_both_loops_train_by_the_same_yaml_from_the_weights(tmp_path: Path) -> None:
    recipe = Recipe(Path("train"), Path("w.safetensors"), ROOT / "configs", ["training.epochs=3"])
    recipe.write(["age_backbone", "age"], tmp_path)
    backbone, age = (load_config(TaskConfig, tmp_path / f"{task}.yaml") for task in ("age_backbone", "age"))
    assert backbone.backbone.weights == "w.safetensors"
    assert backbone.training.validate_every == 1, "an epoch is timed by the line of its validation"
    assert age == load_config(TaskConfig, ROOT / "configs/age.yaml", ["training.epochs=3"])


def test_wrong_input_differs_from_faults() -> None:
    for code, error, message in ((2, InputError, "a fault"), (3, RuntimeError, "ended with 3: a fault")):
        with pytest.raises(error, match=message):
            run(python("-c", f"print('a fault'); raise SystemExit({code})"))


def test_a_section_replaces_itself_only(
    tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "training").mkdir()
    page = tmp_path / "results.md"
    written = merge_page("", machine_header(), {"training": "old", "combine": "the same"})
    page.write_text(written.replace("\n- system", "\nBy hand.\n\n- system", 1) + "\n## notes\nby hand")
    monkeypatch.setattr("bench.speed.training.measure_whole", lambda _, __, work: f"measured in {work}")
    options = ("--data", tmp_path, "--weights", "w.pt", "--work", tmp_path, "--out", page)
    assert call(speed, *options, "--only", "training").code == 0
    assert "\n## combine\n\nthe same\n" in page.read_text()
    assert "old" not in page.read_text()
    assert "\n\nBy hand.\n\n- system" in page.read_text()
    assert page.read_text().endswith("\n## notes\n\nby hand\n")
    # Not the user's own folder `training`, which would be removed.
    assert f"measured in {tmp_path / 'bench-speed' / 'training'}" in page.read_text()
    assert "the same" not in merge_page(page.read_text(), "- processor: another", {}), "of another machine"
