"""The bench: what is timed is what ran, what is missing is said, and a page keeps what was measured before."""

import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn

from bench.speed import __main__ as speed
from bench.speed.combining import FURTHER_VIEWS, listing, with_six_views
from bench.speed.forward import flops_of
from bench.speed.results import merged
from bench.speed.running import ROOT, Missing, Process, python, run
from bench.speed.training import OURS, PLAIN, TASKS, Recipe, Trained, page, whole
from data.annotations.listing import read_listing
from data.runtime.errors import InputError
from ensemble.files.image_paths import image_paths
from ensemble.inference.views import make_views
from heads.build import load_head
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from tests.conftest import Outcome

EPOCHS = """
import time
print("warming up")
for number, f1 in ((1, 0.25), (2, 0.75), (3, 0.5)):
    time.sleep(0.2)
    print(f"epoch {number}: train_loss 0.5, macro_f1 {f1}, accuracy 0.9")
"""


def test_epochs_are_timed_by_their_lines() -> None:
    ran = run(python("-c", EPOCHS))
    assert ran.macro_f1 == [0.25, 0.75, 0.5]
    assert len(ran.epochs) == 2
    assert min(ran.epochs) >= 0.1  # lines come a little late, each by its own
    assert 0 < ran.ends[0] < ran.ends[2] <= ran.seconds
    assert Process(9.0, [1.0, 3.0, 6.0], [0.1, 0.2, 0.3]).epochs == [2.0, 3.0]


def test_epochs_of_heads_that_train_side_by_side_are_told_apart() -> None:
    told = [("age", 1, 0.5), ("mask", 1, 0.75), ("age", 2, 1.0)]
    lines = "\n".join(f"{name} | epoch {epoch}: macro_f1 {f1}, accuracy 0.9" for name, epoch, f1 in told)
    ran = run(python("-c", f"print({lines!r})"))
    assert {name: its.macro_f1 for name, its in ran.named.items()} == {"age": [0.5, 1.0], "mask": [0.75]}
    assert ran.macro_f1 == []


def round_of(macro_f1: list[float], begin: list[float], epoch: float) -> Trained:
    """Four heads with one curve and epochs of one length, that begin at these seconds."""
    ends = {
        task: [first + epoch * (1 + number) for number in range(len(macro_f1))]
        for task, first in zip(TASKS, begin, strict=True)
    }
    return Trained(max(map(max, ends.values())), ends, dict.fromkeys(TASKS, macro_f1))


def test_a_loop_has_come_to_the_level_of_both_when_its_last_head_has() -> None:
    plain = round_of([0.5, 0.7, 0.9], [0, 30, 60, 90], 10)
    ours = round_of([0.4, 0.6, 0.7], [0, 24, 24, 0], 8)
    text = page(Recipe(Path(), Path(), Path()), {PLAIN: [plain], OURS: [ours]})
    cells = [[cell.strip() for cell in line.split("|")][2:7] for line in text.splitlines()[-2:]]
    assert cells[0] == ["120 (120 to 120)", "1.00x", "110 (110 to 110)", "1.00x", "0.9 (0.9 to 0.9)"]
    assert cells[1] == ["48 (48 to 48)", "2.50x", "48 (48 to 48)", "2.29x", "0.7 (0.7 to 0.7)"]
    assert "-0.200 (-0.200 to -0.200)" in text


def test_yamls_for_both_loops_begin_with_the_weights_and_are_otherwise_the_same(tmp_path: Path) -> None:
    recipe = Recipe(Path("train"), Path("w.safetensors"), ROOT / "configs", ["training.epochs=3"])
    written = recipe.write(["age_backbone", "age"], tmp_path)
    backbone, age = (load_config(TaskConfig, written / f"{task}.yaml") for task in ("age_backbone", "age"))
    assert backbone.backbone.weights == "w.safetensors"
    assert backbone.training.validate_every == 1, "an epoch is timed by the line that tells of its validation"
    assert age == load_config(TaskConfig, ROOT / "configs/age.yaml", ["training.epochs=3"])


def test_what_is_missing_is_told_apart_from_what_failed() -> None:
    with pytest.raises(Missing, match=r"unrecognized arguments: --no-such-option"):
        run(python("evaluate.py", "--answers", "a.csv", "--submission", "b.csv", "--no-such-option"))
    with pytest.raises(InputError, match=r"evaluate\.py --answers no-such-file.*\nno-such-file"):
        run(python("evaluate.py", "--answers", "no-such-file", "--submission", "no-such-file"))
    with pytest.raises(RuntimeError, match="ended with 3: a fault"):
        run(python("-c", "print('a fault'); raise SystemExit(3)"))


def test_what_stands_in_the_folder_of_work_is_left_alone(
    tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "mine.txt").write_text("kept")
    seen: list[Path] = []
    monkeypatch.setattr(speed.training, "whole", lambda _, __, work: f"{seen.append(work)}")
    options = ("--data", tmp_path, "--weights", "w.pt", "--work", tmp_path, "--out", tmp_path / "page.md")
    outcome = call(speed, *options, "--only", "training")
    assert outcome.code == 0, outcome.err
    assert seen == [tmp_path / "bench-speed" / "training"]
    assert (tmp_path / "training" / "mine.txt").read_text() == "kept"


def test_heads_that_would_train_one_after_another_are_refused_before_any_does() -> None:
    recipe = Recipe(Path(), Path(), ROOT / "configs")
    one_place = patch("bench.speed.training.places", return_value=[{}])
    ran = patch("bench.speed.training.run")
    with one_place, ran as run, pytest.raises(InputError, match="one head at a time"):
        whole(recipe, 1, Path("nowhere"))
    run.assert_not_called()


def test_six_views_of_the_same_weights_and_an_even_listing(runs: Path, faces: Path, tmp_path: Path) -> None:
    for _ in range(2):  # a folder that was used before will do
        with_six_views(runs, ["gender"], tmp_path / "runs")
        ids = read_listing(faces / "eval" / "info.csv")
        folder = listing(faces / "eval", ids, 5, tmp_path / "five")
    opened, source = (load_head(each / "gender" / "best.safetensors") for each in (tmp_path / "runs", runs))
    assert len(make_views(opened.config.views.steps)) == 6
    assert opened.config.views.steps == FURTHER_VIEWS
    expected = source.head.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in opened.head.state_dict().items())
    chosen = read_listing(folder / "info.csv")
    assert [chosen[0], chosen[-1], len(chosen)] == [ids[0], ids[-1], 5]
    assert len(image_paths(folder / "images", chosen)) == 5


def test_flops_are_two_for_each_weight_and_place() -> None:
    convolution = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert flops_of(convolution, torch.zeros(2, 3, 10, 12)) == 2 * (2 * 10 * 12) * (8 * 3 * 3 * 3)


def measure(out: Path, *more: object) -> None:
    given = [
        "--data",
        out.parent,
        "--weights",
        out.parent / "w.safetensors",
        "--out",
        out,
        "--rounds",
        1,
        *more,
    ]
    with patch.object(sys, "argv", ["speed", *map(str, given)]):
        speed.main()


def test_a_section_takes_the_place_of_its_own_alone(tmp_path: Path) -> None:
    out = tmp_path / "results.md"
    out.write_text(merged("", speed.this_machine(), {"help": "old", "combine": "kept"}))
    measure(out, "--only", "help")
    text = out.read_text()
    assert "\n## combine\n\nkept\n" in text
    assert "old" not in text
    assert all(f"| {script} | " in text for script in speed.SCRIPTS)
    assert f"- torch: {torch.__version__.partition('+')[0]}" in text
    with pytest.raises(InputError, match="expected some of combine, forward, frozen, training, help"):
        measure(out, "--only", "combining")
