"""The task schema: every shipped YAML loads, what it resolves to reads back, contradictions are refused."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data.runtime.errors import InputError
from ensemble.joint import class_names
from heads.build import build_head, build_target, build_trained_target
from heads.config.loader import check_config, load_config
from heads.config.task import UNWEIGHTED, LossTerm, TaskConfig, find_unused_settings
from heads.config.yaml_reader import dump_yaml, parse_yaml
from heads.objective.losses import make_loss

ROOT = Path(__file__).parents[3]
TASK_CONFIGS = [
    path
    for path in sorted((ROOT / "configs").rglob("*.yaml"))
    if "task" in yaml.safe_load(path.read_text(encoding="utf-8"))
]
SIZED = {"resize": {"height": 8, "width": 8}}


def shipped_name(path: Path) -> str:
    return str(path.relative_to(ROOT / "configs"))


def plain(**sections: Any) -> dict[str, Any]:
    """The least that a config says, with other sections in place of its own."""
    return {
        "task": "age",
        "label": {"column": "age", "classes": ["young", "old"], "borders": [30]},
        "loss": {"terms": [{"name": "focal"}]},
        "pixels": {"train": ["hflip", SIZED], "evaluate": [SIZED]},
        "training": {"epochs": 1},
    } | sections


def read_back(config: TaskConfig) -> TaskConfig:
    return check_config(TaskConfig, parse_yaml(config.to_yaml(), "config.yaml")[0], "config.yaml")


@pytest.mark.parametrize("path", TASK_CONFIGS, ids=shipped_name)
def test_a_shipped_config_loads_and_reads_back(path: Path) -> None:
    config = load_config(TaskConfig, path)
    assert config.task == path.stem
    assert read_back(config) == config


@pytest.mark.parametrize("path", TASK_CONFIGS, ids=shipped_name)
def test_a_shipped_config_opens_with_its_command(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# python train_task.py ")
    assert f"--task {path.stem}" in first


@settings(max_examples=60, deadline=None)
@given(
    classes=st.lists(
        st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=8), min_size=2, unique=True
    ),
    lr=st.floats(1e-30, 1e30),
)
def test_any_class_names_and_numbers_read_back(classes: list[str], lr: float) -> None:
    config = check_config(
        TaskConfig, plain(label={"column": "c", "classes": classes}, optimiser={"lr": lr}), "x.yaml"
    )
    assert read_back(config) == config


@pytest.mark.parametrize(
    "name", ["no", "1e5", "1.5e3", "010", "1_000", "null", "~", "12:30", "", " a", "#", "a: b"]
)
def test_text_that_looks_like_something_else_reads_back_as_text(name: str) -> None:
    config = check_config(TaskConfig, plain(label={"column": name, "classes": [name, "other"]}), "x.yaml")
    assert read_back(config) == config


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"label": {"column": "a", "classes": ["x", "x"]}}, "name one class twice"),
        ({"label": {"column": "a", "classes": ["x"]}}, "at least two classes"),
        ({"label": {"column": "a", "classes": ["x", "y"], "borders": [1, 2]}}, "2 classes need 1 borders"),
        ({"label": {"column": "a", "classes": ["x", "y", "z"], "borders": [2, 1]}}, "must rise"),
        (
            {
                "label": {
                    "column": "a",
                    "classes": ["x", "y"],
                    "distribution": {"low": 0, "high": 9, "sigma": 1},
                }
            },
            "give borders that cut it into classes",
        ),
        (
            {
                "label": {
                    "column": "a",
                    "classes": ["x", "y"],
                    "borders": [30],
                    "distribution": {"low": 40, "high": 90, "sigma": 1},
                }
            },
            "must lie within the distribution's low..high",
        ),
        ({"split": {"folds": 5, "fold": 5}}, "fold 5 of 5: expected 0 to 4"),
        ({"split": {"seed": -1}}, "split.seed=-1: Input should be greater than or equal to 0"),
        (
            {"training": {"epochs": 1, "seed": -1}},
            "training.seed=-1: Input should be greater than or equal to 0",
        ),
        ({"training": {"epochs": 1, "select_by": "mae"}}, "training.select_by=mae needs label.distribution"),
        (
            {"loss": {"terms": [{"name": "focal"}], "class_weights": [1.0, 2.0, 3.0]}},
            "loss.class_weights has 3 values for 2 classes",
        ),
        ({"loss": {"terms": []}}, "at least 1 item"),
        ({"pixels": {"train": ["hflop"], "evaluate": [SIZED]}}, "step 1: 'hflop' is unknown"),
        ({"pixels": {"train": [{"noise": {"std": 2}}], "evaluate": [SIZED]}}, "step 1 (noise): std"),
        ({"pixels": {"train": [SIZED], "evaluate": ["hflip"]}}, "images of different sizes stay so"),
        ({"backbone": {"name": "resnet19"}}, "Input should be 'resnet18', 'resnet34', 'resnet50'"),
        ({"backbone": {"freeze": "layer5"}}, "backbone.freeze='layer5'"),
        ({"task": "../age"}, "task='../age'"),
        ({"sampler": {"power": 1.5}}, "sampler.power=1.5: Input should be less than or equal to 1"),
        ({"sampler": {"per_person": 0}}, "sampler.per_person=0"),
    ],
)
def test_contradictions_are_refused(sections: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as raised:
        check_config(TaskConfig, plain(**sections), "x.yaml")
    assert expected in str(raised.value)


def test_a_contradiction_between_sections_does_not_print_them() -> None:
    with pytest.raises(InputError) as raised:
        check_config(TaskConfig, plain(training={"epochs": 1, "select_by": "mae"}), "x.yaml")
    told = "x.yaml: 1 problem in the config\n  x.yaml: training.select_by=mae needs label.distribution"
    assert str(raised.value) == told


@pytest.mark.parametrize("weights", ["none", [1.0, 2.0], {"balanced": 0.5}])
def test_class_weights_are_none_a_list_or_balanced(weights: Any) -> None:
    loss = {"terms": [{"name": "focal"}], "class_weights": weights}
    config = check_config(TaskConfig, plain(loss=loss), "x.yaml")
    assert config.model_dump()["loss"]["class_weights"] == weights


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{balance: 0.5}", "unknown key, did you mean balanced?"),
        ("{balanced: 2}", "less than or equal to 1"),
        ("[1, -2]", "greater than 0"),
        ("balanced", "Input should be 'none'"),
    ],
)
def test_wrong_class_weights_point_at_their_line(tmp_path: Path, written: str, expected: str) -> None:
    path = tmp_path / "x.yaml"
    loss = f"loss:\n  terms: [{{name: focal}}]\n  class_weights: {written}\n"
    rest = plain()
    del rest["loss"]
    path.write_text(loss + dump_yaml(rest), encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load_config(TaskConfig, path)
    assert any(":3: loss.class_weights" in line and expected in line for line in str(raised.value).splitlines())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["label.ordinal=corn"], "go with themselves"),
        (["loss.terms=[{name: corn}]"], "go with themselves"),
        (["label.training.leave_out=[[28, 29]]"], "give borders"),
        (["training.mix={method: halfs}"], "halves"),
        (["training.resizing={least: 0.1}"], "0.25"),
        (["label.parts=[{column: gender, classes: [male, female]}]"], "at least two of them"),
        (["classifier.factored=true"], "needs label.parts"),
        (["label.column=null"], "give column"),
        (["loss.terms=[{name: focal}, {name: expectation}]"], "needs label.distribution"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changes: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_config(TaskConfig, ROOT / "configs/mask.yaml", changes)


def test_the_levers_near_a_border_are_read() -> None:
    changes = [
        "label.distribution=null",
        "label.ordinal=corn",
        "loss.terms=[{name: corn}]",
        "backbone.with_classifier=false",
        "label.training={borders: [30, 58], leave_out: [[28, 29]]}",
    ]
    config = load_config(TaskConfig, ROOT / "configs/age.yaml", changes)
    assert build_target(config.label).outputs == 2
    assert build_trained_target(config.label).borders == (30, 58)
    assert build_target(config.label).borders == (30, 60)


@pytest.mark.parametrize("name", ["joint18", "shared_backbone"])
def test_a_label_of_parts_names_its_classes_and_reads_back(name: str) -> None:
    config = load_config(TaskConfig, ROOT / f"configs/baselines/{name}.yaml")
    assert config.label.classes == class_names({part.column: part.classes for part in config.label.parts})
    assert check_config(TaskConfig, config.model_dump(), "again") == config
    assert build_head(config)(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 18)


KEPT = ["backbone.freeze=layer3", "training.feature_views=2", "training.resizing={least: 0.5}"]
ALONE = ["label.training.leave_out=[[29, 28], [57, 59]]"]
BORDERS = ["label.training.borders=[25, 55]", "loss.class_weights=none", "sampler.power=0"]
NO_WEIGHTS = ["loss.terms=[{name: soft_f1}, {name: expectation}]", "loss.class_weights={balanced: 0.5}"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (ALONE, "label.training.leave_out: [29, 28] holds no number; write the lower end first"),
        (KEPT, "training.resizing: kept features are those of whole images"),
        (NO_WEIGHTS, "loss.class_weights: soft_f1 and expectation take none"),
        (
            [*NO_WEIGHTS, "loss.class_weights=[1, 2, 3]"],
            "loss.class_weights: soft_f1 and expectation take none",
        ),
        ([*NO_WEIGHTS, "loss.class_weights={balanced: 0}"], None),
        ([*NO_WEIGHTS, "loss.class_weights=none"], None),
        (["loss.terms=[{name: focal}, {name: soft_f1}]", "loss.class_weights=[1, 2, 3]"], None),
        (["label.training.leave_out=[[28, 28]]"], None),
        (["loss.terms=[{name: cross_entropy, gamma: 1}]"], "loss.terms: cross_entropy reads no gamma"),
        (["loss.terms=[{name: focal}, {name: soft_f1, label_smoothing: 0.1}]"], "loss.terms: soft_f1 reads no"),
        (["loss.terms=[{name: focal, gamma: 1, label_smoothing: 0.1}]"], None),
        (BORDERS, "label.training.borders: a distribution over numbers has no borders"),
        ([*BORDERS, "sampler.power=0.5"], None),
        ([*BORDERS, "training.mix={method: mixup, rarest: true}"], None),
        ([*BORDERS, "label.distribution=null"], None),
        (KEPT[:2], None),
        (KEPT[2:], None),
    ],
)
def test_a_setting_that_would_do_nothing_is_told(changes: list[str], told: str | None) -> None:
    problems = find_unused_settings(load_config(TaskConfig, ROOT / "configs/age.yaml", changes))
    assert [problem.startswith(told or "") for problem in problems] == [True] * (told is not None)


@pytest.mark.parametrize("path", TASK_CONFIGS, ids=shipped_name)
def test_every_setting_of_a_shipped_config_does_something(path: Path) -> None:
    assert find_unused_settings(load_config(TaskConfig, path)) == []
    assert find_unused_settings(read_back(load_config(TaskConfig, path))) == []


@pytest.mark.parametrize("name", get_args(LossTerm.model_fields["name"].annotation))
def test_class_weights_change_a_loss_unless_it_is_named_unweighted(name: str) -> None:
    logits, targets = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 1])
    if name not in ("coral", "corn"):
        logits = torch.randn(6, 3)
    if name == "expectation":
        targets = torch.nn.functional.one_hot(targets, 3).float()
    plain, weighted = (make_loss(name, w)(logits, targets) for w in (None, torch.tensor([1.0, 5.0, 9.0])))
    assert (plain == weighted) == (name in UNWEIGHTED)
