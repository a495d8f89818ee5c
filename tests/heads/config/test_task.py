"""The task schema: shipped YAMLs load, a resolved config reads back, contradictions are refused, anything else too."""

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data.runtime.errors import InputError
from ensemble.joint import class_names
from heads.config.loader import check_config, dump_yaml, load_config, parse_yaml, read_stored_config
from heads.config.loss import TEACHING, UNWEIGHTED, LossTerm
from heads.config.task import TaskConfig, find_unused_settings
from heads.objective.losses import make_loss

CONFIGS = Path(__file__).parents[3] / "configs"
TASK_CONFIGS = [path for path in sorted(CONFIGS.rglob("*.yaml")) if "task" in yaml.safe_load(path.read_text("utf-8"))]
SIZED = {"resize": {"height": 8, "width": 8}}


def plain(**sections: Any) -> dict[str, Any]:
    """The smallest config, with other sections in place of its own."""
    return {
        "task": "age",
        "label": {"column": "age", "classes": ["young", "old"], "borders": [30]},
        "loss": {"terms": [{"name": "focal"}]},
        "pixels": {"train": ["hflip", SIZED], "evaluate": [SIZED]},
        "training": {"epochs": 1},
    } | sections


def read_back(config: TaskConfig) -> TaskConfig:
    return check_config(TaskConfig, parse_yaml(config.to_yaml(), "config.yaml")[0], "config.yaml")


@pytest.mark.parametrize("path", TASK_CONFIGS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_config_loads_reads_back_and_opens_with_its_command(path: Path) -> None:
    config = load_config(TaskConfig, path)
    assert config.task == path.stem
    assert read_back(config) == config
    assert find_unused_settings(config) == find_unused_settings(read_back(config)) == []
    assert re.match(rf"# python train_task\.py .*--task {path.stem}\b", path.read_text(encoding="utf-8"))


XY, YEARS = "column: a, classes: [x, y]", "distribution: {low: 0, high: 9, sigma: 1}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("label={column: a, classes: [x, x]}", "name one class twice"),
        ("label={classes: [x, y]}", "give column"),
        (f"label={{{XY}, borders: [1, 2]}}", "2 classes need 1 borders"),
        ("label={column: a, classes: [x, y, z], borders: [2, 1]}", "must rise"),
        (f"label={{{XY}, {YEARS}}}", "give borders that cut them"),
        (f"label={{{XY}, borders: [0], {YEARS}}}", "must lie within"),
        (f"label={{{XY}, borders: [10], {YEARS}}}", "must lie within"),
        (f"label={{{XY}, distribution: {{low: 9, high: 9, sigma: 1}}}}", "low 9 must be below"),
        (f"label={{{XY}, borders: [3], {YEARS}, ordinal: corn}}", "either a distribution or ordinal"),
        (f"label={{parts: [{{{XY}}}]}}", "at least two parts"),
        (f"label={{parts: [{{{XY}}}, {{{XY}}}], classes: [x, y]}}", "leave them out"),
        ("split={folds: 5, fold: 5}", "fold 5 of 5: expected 0 to 4"),
        ("split.seed=-1", "split.seed=-1: Input should be greater than or equal to 0"),
        ("training.select_by=mae", "--set: training.select_by=mae needs label.distribution"),
        ("loss.class_weights=[1, 2, 3]", "loss.class_weights has 3 values for 2 classes"),
        ("pixels.train=[hflip]", "images of different sizes stay so"),
        ("pixels.evaluate=[{fit: {height: 8, width: 6}}]", "images of different sizes stay so"),
        (f"pixels.evaluate=[hflip, {SIZED}, {{noise: {{}}}}]", "--set: pixels.evaluate=['hflip'"),
        (f"pixels.evaluate=[hflip, {SIZED}, {{noise: {{}}}}]", "hflip, noise: random, but validation and inference"),
        ("backbone.with_classifier=true", "backbone.with_classifier needs backbone.weights=run:NAME"),
        ("task=../age", "task='../age'"),
        ("label.ordinal=corn", "use the same one, alone, in both keys"),
        ("loss.terms=[{name: corn}]", "use the same one, alone, in both keys"),
        ("loss.terms=[{name: focal}, {name: expectation}]", "needs label.distribution"),
        ("loss.terms=[{name: focal}, {name: distillation}]", "distillation needs a teacher"),
        (
            "loss.terms=[{name: distillation}]",
            "expected one loss of the labels, or two, and distillation or embedding once at most",
        ),
        ("loss.terms=[{name: focal}, {name: distillation}, {name: distillation}]", "or embedding once at most"),
        ("loss.terms=[{name: focal}, {name: distillation}, {name: embedding}]", "or embedding once at most"),
        ("loss.terms=[{name: focal, factor: 0}]", "all factors are 0"),
        ("teacher={}", "teacher: give either runs or file"),
        ("teacher={runs: [a], file: b}", "teacher: give either runs or file"),
        ("teacher={file: b, allow_training_people: true}", "only runs know whom they were trained on"),
        ("classifier.factored=true", "needs label.parts"),
        ("training={epochs: 1, mix: {}, feature_views: 1}", "training.mix needs pixels"),
        (
            "training.mix.rarest=oldest",
            "training.mix.rarest='oldest': expected true, false or one of 'young', 'old'",
        ),
        ("label.training={leave_out: [[28, 29]]}", "--set: label.training: removed in 0.2: "),
        ("training.resizing={least: 0.5}", "--set: training.resizing: removed in 0.2: "),
        ("training.mix={method: mixup}", "--set: training.mix.method=mixup: removed in 0.2: "),
        ("training.mix={alpha: 1.0}", "--set: training.mix.alpha: removed in 0.2: "),
    ],
)
def test_a_contradictory_or_retired_setting_is_refused(change: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(dump_yaml(plain()), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(expected)):
        load_config(TaskConfig, path, [change])


def test_sections_that_contradict_each_other_are_reported_with_a_line(tmp_path: Path) -> None:
    training = {"epochs": 1, "mix": {"p": 0.5, "rarest": "oldest"}}
    path, text = tmp_path / "x.yaml", dump_yaml(plain(training=training))
    path.write_text(text, encoding="utf-8")
    line = 1 + [line.strip() for line in text.splitlines()].index("rarest: oldest")
    with pytest.raises(InputError, match=rf"x\.yaml:{line}: training\.mix\.rarest='oldest': expected"):
        load_config(TaskConfig, path)


@pytest.mark.parametrize(
    ("old", "mix"),
    [
        ({"mix": None, "resizing": {"least": 0.5, "until": 0.5}}, None),
        ({"mix": {"method": "halves", "p": 0.2, "alpha": 1.0, "rarest": True}, "resizing": None}, 0.2),
        ({"mix": {"method": "mixup", "p": 0.2, "alpha": 0.4, "rarest": False}}, None),
        ({"feature_views": 2}, None),
    ],
)
def test_a_config_stored_by_0_1_loads(old: dict[str, Any], mix: float | None) -> None:
    stored = load_config(TaskConfig, CONFIGS / "age.yaml").model_dump()
    stored["training"] |= old
    stored["label"]["training"] = {"borders": [30.0, 58.0], "leave_out": [[29.0, 28.0]]}
    config = read_stored_config(TaskConfig, stored, "best.safetensors")
    assert (config.training.mix and config.training.mix.p) == mix
    assert config.label == load_config(TaskConfig, CONFIGS / "age.yaml").label


def test_a_head_stored_by_0_1_keeps_its_random_steps_of_evaluation() -> None:
    stored = plain(pixels={"train": [SIZED], "evaluate": [SIZED, "hflip"]})
    assert read_stored_config(TaskConfig, stored, "best.safetensors").pixels.evaluate == [SIZED, "hflip"]


def test_a_label_of_parts_names_the_joint_classes() -> None:
    label = load_config(TaskConfig, CONFIGS / "baselines/joint18.yaml").label
    assert label.classes == class_names({part.column: part.classes for part in label.parts})


NO_WEIGHTS = ["loss.terms=[{name: soft_f1}, {name: expectation}]", "loss.class_weights={balanced: 0.5}"]
DISTILLED = "loss.terms=[{name: focal}, {name: distillation, factor: 0, temperature: 2}]"
WEIGHTED, VIEWS = "loss.class_weights=[1, 2, 3]", "training.feature_views=2"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (NO_WEIGHTS, "loss.class_weights: soft_f1 and expectation use none"),
        ([*NO_WEIGHTS, WEIGHTED], "loss.class_weights: soft_f1 and expectation use none"),
        ([*NO_WEIGHTS, "loss.class_weights={balanced: 0}"], None),
        (["loss.terms=[{name: focal}, {name: soft_f1}]", WEIGHTED], None),
        (["loss.terms=[{name: cross_entropy, gamma: 1}]"], "loss.terms: cross_entropy does not use gamma"),
        (["loss.terms=[{name: soft_f1, label_smoothing: 0.1}, {name: focal}]"], "loss.terms: soft_f1 does not"),
        (["loss.terms=[{name: focal, gamma: 1, label_smoothing: 0.1}]"], None),
        (["backbone.freeze=layer3", VIEWS], "training.feature_views: needs backbone.freeze=all"),
        (["backbone.freeze=all", VIEWS], None),
        (["teacher.runs=[a]"], "teacher: only distillation or embedding in loss.terms uses it"),
        (
            ["loss.terms=[{name: focal}, {name: embedding, temperature: 2}]", "teacher.file=a"],
            "loss.terms: embedding does",
        ),
        ([DISTILLED, "teacher.runs=[a]"], None),
        (["loss.terms=[{name: focal, temperature: 2}]"], "loss.terms: focal does not use temperature"),
        (["optimiser.coral_lr=0.1"], "optimiser.coral_lr: only label.ordinal=coral uses it"),
    ],
)
def test_a_setting_without_effect_is_reported(changes: list[str], expected: str | None) -> None:
    problems = find_unused_settings(load_config(TaskConfig, CONFIGS / "age.yaml", changes))
    assert [problem.startswith(expected or "") for problem in problems] == [True] * (expected is not None)


@pytest.mark.parametrize("name", sorted({*get_args(LossTerm.model_fields["name"].annotation)} - {*TEACHING}))
def test_class_weights_change_a_loss_unless_it_is_named_unweighted(name: str) -> None:
    logits, targets = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 1])
    if name not in ("coral", "corn"):
        logits = torch.randn(6, 3)
    if name == "expectation":
        targets = torch.nn.functional.one_hot(targets, 3).float()
    plain, weighted = (make_loss(name)(logits, targets, w) for w in (None, torch.tensor([1.0, 5.0, 9.0])))
    assert (plain == weighted) == (name in UNWEIGHTED)


SHIPPED = [load_config(TaskConfig, path).model_dump() for path in TASK_CONFIGS]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("1e-3")
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=6), LEAVES, max_size=3)


def locations(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Locations of every section, item and value in nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from locations(inner, (*above, key))


@settings(max_examples=200, deadline=None)
@given(shipped=st.sampled_from(SHIPPED), data=st.data(), new=VALUES)
def test_a_shipped_config_with_anything_anywhere_is_read_or_refused(
    shipped: dict[str, Any], data: st.DataObject, new: Any
) -> None:
    *parents, last = data.draw(st.sampled_from(list(locations(shipped))))
    value = deepcopy(shipped)
    reduce(getitem, parents, value)[last] = new
    for read in (check_config, read_stored_config):
        try:
            config = read(TaskConfig, value, "x.yaml")
        except InputError as error:
            assert str(error).startswith("x.yaml")  # noqa: PT017 (an error is one of two right answers)
        else:
            assert check_config(TaskConfig, config.model_dump(), "again") == config
