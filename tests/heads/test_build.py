"""Configs become the objects that they describe; a head is loaded as it was saved, a backbone only if it fits."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from data.runtime.errors import InputError
from heads.build import (
    build_loss,
    build_mixing,
    build_train_state,
    describe_outputs,
    load_backbone_weights,
    load_task_config,
)
from heads.config.loss import Loss
from heads.config.task import Backbone, Label, Mix, TaskConfig
from heads.load import build_head, build_target, load_head
from heads.model.head import Head
from heads.objective.losses import focal_loss, soft_f1_loss
from heads.objective.targets import Target
from heads.run.checkpoint import load_tensors, save_tensors
from heads.run.folder import PACKAGES, run_folder, save_head

pytestmark = pytest.mark.usefixtures("tiny_backbone")
CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ["under 30", "30 to 59", "60 and over"]
YEARS = {"low": 0, "high": 100, "sigma": 3}
AGE = {"column": "age", "classes": NAMES, "borders": [30, 60], "distribution": YEARS}
MASK = {"column": "mask", "classes": ["wear", "incorrect", "normal"]}
PARTS = [{"column": "mask", "classes": ["wear", "normal"]}, {"column": "gender", "classes": ["male", "female"]}]


@pytest.fixture
def config_of(colour_config: Callable[..., TaskConfig]) -> Callable[..., TaskConfig]:
    """The config of a small head with a label; other sections extend the usual ones."""

    def make(label: dict[str, Any] = MASK, **sections: Any) -> TaskConfig:
        return colour_config(label=label, loss={"terms": [{"name": label.get("ordinal", "focal")}]}, **sections)

    return make


BALANCED = torch.tensor([100 / 3 / n for n in (70, 20, 10)])  # scikit-learn's "balanced"
YEAR_WEIGHTS = torch.tensor([1.0] * 30 + [2.0] * 30 + [3.0] * 41)  # each year has the weight of its class
FOCAL_AND_F1 = [{"name": "focal", "factor": 0.75, "gamma": 1.0}, {"name": "soft_f1", "factor": 0.25}]
ENTROPY, LISTED = [{"name": "cross_entropy"}], [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("terms", "class_weights", "label", "expected"),
    [
        (
            *(FOCAL_AND_F1, {"balanced": 1.0}, MASK),
            lambda x, y: 0.75 * focal_loss(x, y, 1.0, BALANCED) + 0.25 * soft_f1_loss(x, y),
        ),
        (ENTROPY, LISTED, MASK, lambda x, y: F.cross_entropy(x, y, torch.tensor(LISTED))),
        (ENTROPY, LISTED, AGE, lambda x, y: F.cross_entropy(x, y, YEAR_WEIGHTS)),
    ],
)
def test_a_loss_is_the_sum_of_its_terms_with_class_weights(
    terms: Any, class_weights: Any, label: dict[str, Any], expected: Callable
) -> None:
    target = build_target(Label.model_validate(label))
    loss = build_loss(Loss(terms=terms, class_weights=class_weights), np.array([70, 20, 10]), target)
    logits, targets = torch.randn(20, target.outputs), torch.randint(target.outputs, (20,))
    assert loss(logits, targets).item() == pytest.approx(expected(logits, targets).item())


@pytest.mark.usefixtures("accelerate_anew")
@pytest.mark.parametrize(("rarest", "wanted"), [(True, 1), ("blue", 2)])
def test_halves_are_completed_by_the_first_of_the_rarest_classes_or_by_the_named_one(
    rarest: bool | str, wanted: int
) -> None:
    mixing = build_mixing(Mix(p=1.0, rarest=rarest), np.array([5, 2, 2]), Target("colour", ("red", "green", "blue")))
    assert mixing is not None
    _, soft = mixing(torch.zeros(6, 3, 4, 4), torch.arange(6) % 3, (0,))
    assert (soft[:, wanted] >= 0.5).all()


def test_a_teachers_probabilities_are_mixed_as_the_labels() -> None:
    target = Target("colour", ("red", "green", "blue"))
    mixing = build_mixing(Mix(p=1.0, rarest="blue"), np.array([5, 2, 2]), target, 3)
    assert mixing is not None
    teacher = F.one_hot(torch.arange(1, 7) % 3, 3).float()  # of the next class each
    _, mixed = mixing(torch.zeros(6, 3, 4, 4), target.join_teacher(torch.arange(6) % 3, teacher), (0,))
    assert (mixed[:, 2] >= 0.5).all()
    assert torch.equal(mixed[:, 3:], mixed[:, :3].roll(1, dims=1))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_average_is_validated_if_there_is_one(ema: float, config_of: Callable) -> None:
    config = config_of(training={"epochs": 1, "ema": ema})
    state = build_train_state(config, build_head(config), 5, Accelerator(cpu=True))
    assert (state.average is not None) == bool(ema)
    assert state.eval_head is (state.average.module if state.average else state.head)


@pytest.mark.parametrize(("written", "read"), [(1.5, 1.5), (0, 0.0), (None, None), ("1", None)])
def test_a_head_is_loaded_as_it_was_saved(
    tmp_path: Path, pixels: Tensor, config_of: Callable, written: Any, read: float | None
) -> None:
    config = config_of(AGE).model_copy(update={"corrections": "/data/fixes.csv"})
    head, path = build_head(config).eval(), tmp_path / "best.safetensors"
    save_head(path, head, config.model_dump(), {"macro_f1": 0.5}, written, 1.5)
    loaded = load_head(path)
    assert loaded.config == config.model_copy(update={"corrections": "fixes.csv"})  # folders are not written
    assert loaded.target == build_target(config.label) == Target("age", tuple(NAMES), (30, 60), (0, 100), 3)
    assert (loaded.validation, loaded.box_margin, loaded.head.training) == ({"macro_f1": 0.5}, read, False)
    assert loaded.temperature == 1.5
    assert loaded.head(pixels).shape == (4, 101)
    assert torch.equal(loaded.head(pixels), head(pixels))
    assert loaded.head.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert load_tensors(path)[1]["versions"].keys() == {"python", *PACKAGES}


def test_a_head_of_0_1_has_no_temperature_and_a_wrong_one_is_refused(tmp_path: Path, config_of: Callable) -> None:
    config, path = config_of(AGE), tmp_path / "best.safetensors"
    tensors, description = build_head(config).state_dict(), {"config": config.model_dump()}
    save_tensors(path, tensors, description)
    assert load_head(path).temperature == 1
    for wrong in (0, -1, float("nan"), "2"):
        save_tensors(path, tensors, description | {"temperature": wrong})
        with pytest.raises(InputError, match="temperature"):
            load_head(path)


def test_a_backbone_is_loaded_from_another_run_and_frozen(tmp_path: Path) -> None:
    source, head, run = Head("resnet18", 3), Head("resnet18", 3), run_folder(tmp_path, "base")
    run.folder.mkdir()
    save_file({f"backbone.{key}": t.half() for key, t in source.backbone.state_dict().items()}, run.best)
    load_backbone_weights(head, Backbone(weights="run:base", freeze="stem"), run)
    weight = head.backbone.get_parameter("conv1.weight")
    assert torch.equal(weight, source.backbone.get_parameter("conv1.weight").half().float())
    assert not weight.requires_grad
    load_backbone_weights(head, Backbone(weights="random"))
    assert torch.equal(head.backbone.get_parameter("conv1.weight"), weight)  # as it was


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., tuple[Head, str]]:
    """Load the file of a head with one config into a head with another; return the head and the report."""

    def load_into(saved: TaskConfig, config: TaskConfig, **options: Any) -> tuple[Head, str]:
        path, head = tmp_path / "best.safetensors", build_head(config)
        save_head(path, build_head(saved), saved.model_dump(), {})
        outputs = describe_outputs(config.label, config.classifier.factored)
        return head, load_backbone_weights(head, Backbone(weights=str(path), **options), outputs=outputs)

    return load_into


def test_a_backbone_that_was_trained_on_pixels_of_another_scale_is_refused(config_of: Callable, load: Callable) -> None:
    other = config_of(pixels={"std": [0.25, 0.25, 0.25]})
    with pytest.raises(InputError, match=r"pixels\.std: found \[0\.22.*expected \[0\.25, 0\.25, 0\.25\]"):
        load(other, config_of())
    load(other, other)


@pytest.mark.parametrize(
    ("saved", "wanted", "problem"),
    [
        (MASK, MASK, ""),
        (AGE, AGE | {"classes": ["young", "old"], "borders": [50]}, ""),  # a year is a year
        (AGE, AGE | {"distribution": YEARS | {"low": 10}}, "label.distribution: found 10 to 100, expected 0 to 100"),
        (MASK, MASK | {"classes": ["a", "b", "c"]}, "label.classes: found ['a', 'b', 'c'], expected ['wear', 'inc"),
        (MASK | {"ordinal": "corn"}, MASK | {"ordinal": "coral"}, "label.ordinal: found coral, expected corn"),
    ],
)
def test_a_classifier_is_loaded_only_for_outputs_of_the_same_meaning(
    saved: dict[str, Any], wanted: dict[str, Any], problem: str, config_of: Callable, load: Callable, tmp_path: Path
) -> None:
    if problem:
        with pytest.raises(InputError, match=rf"\n  {re.escape(problem)}[^\n]*$"):
            load(config_of(saved), config_of(wanted), with_classifier=True)
        return
    head, report = load(config_of(saved), config_of(wanted), with_classifier=True)
    assert report.endswith("; with its classifier; frozen: none")
    tensors = load_tensors(tmp_path / "best.safetensors")[0]
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in head.state_dict().items())


def test_a_file_without_config_is_loaded_if_its_classifier_fits(config_of: Callable, tmp_path: Path) -> None:
    head, path = build_head(config_of()), tmp_path / "plain.safetensors"
    backbone, outputs = Backbone(weights=str(path), with_classifier=True), {"label.ordinal": "none"}
    save_file({key: tensor.contiguous() for key, tensor in head.state_dict().items()}, path)
    assert "with its classifier" in load_backbone_weights(head, backbone, outputs=outputs)
    with pytest.raises(InputError, match=r"plain\.safetensors \(classifier\): 4 of its tensors do not fit"):
        load_backbone_weights(Head("resnet18", 4), backbone, outputs=outputs)
    save_tensors(path, {f"backbone.{key}": tensor for key, tensor in head.backbone.state_dict().items()}, {})
    with pytest.raises(InputError, match="has no classifier, expected a head's file"):
        load_backbone_weights(head, backbone, outputs=outputs)


def test_a_checkpoint_of_0_1_is_loaded_as_a_head_and_as_weights(config_of: Callable, tmp_path: Path) -> None:
    head, config, path = build_head(config_of()), config_of().model_dump(), tmp_path / "best.safetensors"
    config["label"]["training"], config["training"]["resizing"] = {"borders": None, "leave_out": []}, None
    tensors = {key.replace("backbone.", "trunk."): tensor for key, tensor in head.state_dict().items()}
    save_tensors(path, tensors, {"config": config})
    other, backbone = build_head(config_of()), Backbone(weights=str(path), with_classifier=True)
    load_backbone_weights(other, backbone, outputs={"label.classes": MASK["classes"]})
    for found in (load_head(path).head, other):
        assert all(torch.equal(tensor, head.state_dict()[key]) for key, tensor in found.state_dict().items())


def test_outputs_of_parts_are_not_those_of_their_combinations() -> None:
    label, turned = Label(parts=PARTS), Label(parts=PARTS[::-1])
    assert describe_outputs(label, False) == describe_outputs(Label(column="both", classes=label.classes), False)
    assert describe_outputs(label, factored=False) != describe_outputs(label, factored=True)
    assert describe_outputs(label, factored=True) != describe_outputs(turned, factored=True)

    age, backbone = (load_task_config(task, CONFIGS) for task in ("age", "age_backbone"))
    assert describe_outputs(age.label, factored=False) == describe_outputs(backbone.label, factored=False)
