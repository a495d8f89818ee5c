"""A config becomes the objects that it describes, and a head comes out of its file as it went in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from data.runtime.errors import InputError
from heads.build import (
    build_head,
    build_loss,
    build_target,
    build_train_state,
    describe_outputs,
    load_backbone_weights,
    load_head,
)
from heads.config.loader import load_config
from heads.config.task import Backbone, Label, Loss, TaskConfig
from heads.model.head import Head
from heads.objective.losses import focal_loss, soft_f1_loss
from heads.objective.targets import Target
from heads.run.checkpoint import load_tensors, save_tensors
from heads.run.folder import PACKAGES, run_folder, save_head

AGE = Path(__file__).parents[2] / "configs" / "age.yaml"
NAMES = ["under 30", "30 to 59", "60 and over"]
AGE_LABEL = {
    "column": "age",
    "classes": NAMES,
    "borders": [30, 60],
    "distribution": {"low": 0, "high": 100, "sigma": 3},
}
MASK_LABEL = {"column": "mask", "classes": ["wear", "incorrect", "normal"]}
SIZED = {"resize": {"height": 32, "width": 32}}
MASK = Target("mask", ("wear", "incorrect", "normal"))


def config_of(label: dict[str, Any] = MASK_LABEL, **sections: Any) -> TaskConfig:
    return TaskConfig.model_validate(
        {
            "task": "any",
            "label": label,
            "loss": {"terms": [{"name": "focal"}]},
            "pixels": {"train": [SIZED], "evaluate": [SIZED]},
            "training": {"epochs": 1},
        }
        | sections
    )


def test_a_label_section_becomes_its_target() -> None:
    assert build_target(Label.model_validate(MASK_LABEL)) == MASK
    assert build_target(Label.model_validate(AGE_LABEL)) == Target("age", tuple(NAMES), (30, 60), (0, 100), 3)


@pytest.mark.parametrize(("label", "outputs"), [(MASK_LABEL, 3), (AGE_LABEL, 101)])
def test_a_head_has_the_outputs_and_the_normalisation_of_its_config(
    label: dict[str, Any], outputs: int, pixels: Tensor
) -> None:
    head = build_head(config_of(label, classifier={"hidden": [8], "dropout": 0.1}))
    with torch.inference_mode():
        assert head.eval()(pixels).shape == (4, outputs)
    assert head.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert head.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


def random_case(outputs: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(20, outputs), torch.randint(outputs, (20,))


def test_a_loss_is_the_weighted_sum_of_its_terms_over_balanced_weights() -> None:
    terms = [{"name": "focal", "factor": 0.75, "gamma": 1.0}, {"name": "soft_f1", "factor": 0.25}]
    section = Loss.model_validate({"terms": terms, "class_weights": {"balanced": 1.0}})
    logits, targets = random_case()
    weight = torch.tensor([100 / 3 / n for n in (70, 20, 10)])
    expected = 0.75 * focal_loss(logits, targets, 1.0, weight) + 0.25 * soft_f1_loss(logits, targets)
    assert build_loss(section, np.array([70, 20, 10]), MASK)(logits, targets).item() == pytest.approx(
        expected.item()
    )


def test_listed_weights_are_taken_as_they_are() -> None:
    section = Loss.model_validate({"terms": [{"name": "cross_entropy"}], "class_weights": [1.0, 2.0, 3.0]})
    logits, targets = random_case()
    expected = torch.nn.functional.cross_entropy(logits, targets, torch.tensor([1.0, 2.0, 3.0]))
    assert build_loss(section, np.array([1, 1, 1]), MASK)(logits, targets).item() == pytest.approx(
        expected.item()
    )


def test_each_year_has_the_weight_of_its_class() -> None:
    section = Loss.model_validate({"terms": [{"name": "cross_entropy"}], "class_weights": [1.0, 2.0, 3.0]})
    target = build_target(Label.model_validate(AGE_LABEL))
    logits, targets = random_case(101)
    years = torch.tensor([1.0] * 30 + [2.0] * 30 + [3.0] * 41)
    expected = torch.nn.functional.cross_entropy(logits, targets, years)
    assert build_loss(section, np.array([1, 1, 1]), target)(logits, targets).item() == pytest.approx(
        expected.item()
    )


def test_an_average_of_weights_is_kept_only_where_asked_for() -> None:
    plain = build_train_state(config_of(), Head("resnet18", 3), 5)
    averaged = build_train_state(config_of(training={"epochs": 1, "ema": 0.9}), Head("resnet18", 3), 5)
    assert plain.judged is plain.head
    assert averaged.average is not None
    assert averaged.judged is averaged.average.module


def test_a_head_comes_out_of_its_file_as_it_went_in(tmp_path: Path, pixels: Tensor) -> None:
    config = config_of(AGE_LABEL, classifier={"hidden": [8], "dropout": 0.5})
    head, path = build_head(config).eval(), tmp_path / "best.safetensors"
    save_head(path, head, config.model_dump(), {"macro_f1": 0.5})
    opened = load_head(path)
    assert opened.config == config
    assert opened.target == build_target(config.label)
    assert opened.validation == {"macro_f1": 0.5}
    assert opened.box_margin is None
    assert not opened.head.training
    with torch.inference_mode():
        assert torch.equal(opened.head(pixels), head(pixels))
    assert load_tensors(path)[1]["versions"].keys() == {"python", *PACKAGES}
    assert load_tensors(path)[1]["versions"]["torch"] == torch.__version__.split("+")[0]


@pytest.mark.parametrize(("written", "read"), [(1.5, 1.5), (0, 0.0), (None, None), ("1", None)])
def test_a_head_tells_the_margin_of_the_boxes_it_was_trained_on(
    tmp_path: Path, written: Any, read: float | None
) -> None:
    config, path = config_of(), tmp_path / "best.safetensors"
    save_head(path, build_head(config), config.model_dump(), {}, written)
    assert load_head(path).box_margin == read


def test_a_file_that_is_no_head_or_disagrees_with_its_config_is_refused(tmp_path: Path) -> None:
    path, head, config = tmp_path / "a.safetensors", Head("resnet18", 2), config_of().model_dump()
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="found no description"):
        load_head(path)
    save_tensors(path, {"x": torch.zeros(1)}, {"history": []})
    with pytest.raises(InputError, match=r"found no config in it, expected a head's best\.safetensors"):
        load_head(path)
    save_tensors(path, {"x": torch.zeros(1)}, {"config": config | {"colour": 1}})
    with pytest.raises(InputError, match=r"a\.safetensors: colour: unknown key"):
        load_head(path)
    save_tensors(path, head.state_dict(), {"config": config})
    with pytest.raises(InputError, match="its tensors do not fit its own config"):
        load_head(path)


@pytest.mark.parametrize(
    ("fold", "there", "taken"),
    [
        (None, [None], None),
        (2, [None], None),
        (2, [None, 2], 2),
        (1, [None, 2], None),
        (2, [2], 2),
    ],
)
def test_a_backbone_comes_from_another_run_of_the_same_fold_where_there_is_one(
    tmp_path: Path,
    resnet18_state: dict[str, Tensor],
    fold: int | None,
    there: list[int | None],
    taken: int | None,
) -> None:
    for other in there:
        mark = torch.full_like(resnet18_state["bn1.weight"], -1.0 if other is None else other)
        backbone = {f"backbone.{key}": tensor.half() for key, tensor in resnet18_state.items()}
        save_file(
            backbone | {"backbone.bn1.weight": mark}, _made(run_folder(tmp_path, "age_backbone", other).best)
        )
    head = Head("resnet18", 3)
    told = load_backbone_weights(head, Backbone(weights="run:age_backbone", freeze="stem"), tmp_path, fold)
    assert told.startswith(f"{run_folder(tmp_path, 'age_backbone', taken).best}: 120 tensors taken")
    assert told.endswith("; frozen: stem")
    norm = head.backbone.get_submodule("bn1").weight
    assert set(norm.tolist()) == {-1.0 if taken is None else taken}
    assert not norm.requires_grad
    for other in there:
        run_folder(tmp_path, "age_backbone", other).best.unlink()  # 23 MB each that pytest would keep


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_a_run_that_is_not_there_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load_backbone_weights(Head("resnet18", 3), Backbone(weights="run:age_backbone"), tmp_path, None)
    assert f"train it first with train_task.py --task age_backbone --runs {tmp_path}" in str(raised.value)


def test_a_backbone_that_was_fed_pixels_of_another_scale_is_refused(tmp_path: Path) -> None:
    config, path = config_of(), tmp_path / "best.safetensors"
    keras_like = config.model_copy(update={"pixels": config.pixels.model_copy(update={"std": [1 / 255] * 3})})
    save_head(path, build_head(keras_like), keras_like.model_dump(), {})
    for freeze in ("none", "all"):
        with pytest.raises(InputError, match="pixels of another scale than this head's") as refused:
            load_backbone_weights(
                build_head(config), Backbone(weights=str(path), freeze=freeze), tmp_path, None
            )
        [line] = str(refused.value).splitlines()[1:]
        assert line.startswith("  pixels.std: found [0.22")
        assert f"expected {[1 / 255] * 3}; set it to that" in line
    load_backbone_weights(build_head(keras_like), Backbone(weights=str(path)), tmp_path, None)


def test_a_backbone_may_bring_its_classifier_where_the_outputs_are_the_same(tmp_path: Path) -> None:
    config, path = config_of(), tmp_path / "best.safetensors"
    pixels = config.pixels
    first, same, other = (
        build_head(config),
        build_head(config),
        Head("resnet18", 4, mean=pixels.mean, std=pixels.std),
    )
    save_head(path, first, config.model_dump(), {})
    told = load_backbone_weights(same, Backbone(weights=str(path), with_classifier=True), tmp_path, None)
    assert told.endswith("; with its classifier; frozen: none")
    assert all(torch.equal(tensor, first.state_dict()[key]) for key, tensor in same.state_dict().items())
    with pytest.raises(InputError, match=r"best\.safetensors \(classifier\): its tensors do not fit"):
        load_backbone_weights(other, Backbone(weights=str(path), with_classifier=True), tmp_path, None)
    alone = tmp_path / "backbone.safetensors"
    save_tensors(alone, {f"backbone.{key}": tensor for key, tensor in same.backbone.state_dict().items()}, {})
    with pytest.raises(InputError, match="has no classifier, expected a head's file"):
        load_backbone_weights(same, Backbone(weights=str(alone), with_classifier=True), tmp_path, None)


JOINT = {
    "parts": [
        {"column": "mask", "classes": ["wear", "normal"]},
        {"column": "gender", "classes": ["male", "female"]},
    ]
}


def labelled(**changes: Any) -> dict[str, Any]:
    return AGE_LABEL | changes


@pytest.mark.parametrize(
    ("made", "wanted", "told"),
    [
        (AGE_LABEL, labelled(classes=["young", "old"], borders=[50]), []),  # a year is a year
        (AGE_LABEL, labelled(distribution={"low": 0, "high": 100, "sigma": 5}), []),
        (
            AGE_LABEL,
            labelled(distribution={"low": 10, "high": 110, "sigma": 3}),
            ["label.distribution: found 0 to 100, expected 10 to 110"],
        ),
        (
            MASK_LABEL,
            MASK_LABEL | {"classes": ["normal", "incorrect", "wear"]},
            ["label.classes: found ['wear', 'incorrect', 'normal'], expected ['normal', 'incorrect', 'wear']"],
        ),
        (
            MASK_LABEL | {"ordinal": "corn"},
            MASK_LABEL | {"ordinal": "coral"},
            ["label.ordinal: found corn, expected coral"],
        ),
    ],
)
def test_a_classifier_whose_outputs_mean_others_is_refused(
    made: dict[str, Any], wanted: dict[str, Any], told: list[str], tmp_path: Path
) -> None:
    def config(label: dict[str, Any]) -> TaskConfig:
        return config_of(label, loss={"terms": [{"name": label.get("ordinal", "focal")}]})

    path, backbone = run_folder(tmp_path, "any").best, Backbone(weights="run:any", with_classifier=True)
    save_head(_made(path), build_head(config(made)), config(made).model_dump(), {})
    head, meaning = build_head(config(wanted)), describe_outputs(config(wanted).label, factored=False)
    if told:
        with pytest.raises(InputError) as raised:
            load_backbone_weights(head, backbone, tmp_path, None, meaning)
        first, *lines = str(raised.value).splitlines()
        assert first.startswith(f"{path}: the outputs of its classifier mean others than this head's")
        assert [line.strip() for line in lines] == told
    else:
        assert "with its classifier" in load_backbone_weights(head, backbone, tmp_path, None, meaning)
    path.unlink()  # 45 MB that pytest would keep


def test_outputs_of_parts_are_no_outputs_of_their_combinations() -> None:
    label = Label.model_validate(JOINT)
    turned = Label.model_validate({"parts": JOINT["parts"][::-1]})
    joint = Label(column="both", classes=label.classes)
    assert describe_outputs(label, factored=False) == describe_outputs(joint, factored=False)
    assert describe_outputs(label, factored=False) != describe_outputs(label, factored=True)
    assert describe_outputs(label, factored=True) != describe_outputs(turned, factored=True)


def test_a_file_that_does_not_say_what_its_outputs_mean_is_taken(tmp_path: Path) -> None:
    config, path = config_of(), tmp_path / "plain.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in build_head(config).state_dict().items()}, path)
    meaning = describe_outputs(config.label, factored=False)
    told = load_backbone_weights(
        build_head(config), Backbone(weights=str(path), with_classifier=True), tmp_path, None, meaning
    )
    assert "with its classifier" in told


def test_the_shipped_age_head_means_what_its_backbone_s_outputs_do() -> None:
    age, backbone = (load_config(TaskConfig, AGE.with_name(f"{name}.yaml")) for name in ("age", "age_backbone"))
    assert age.backbone.with_classifier
    assert describe_outputs(age.label, age.classifier.factored) == describe_outputs(
        backbone.label, backbone.classifier.factored
    )


def test_random_weights_are_left_as_they_were_drawn(tmp_path: Path) -> None:
    head = Head("resnet18", 3)
    before = head.backbone.get_parameter("conv1.weight").clone()
    assert (
        load_backbone_weights(head, Backbone(weights="random"), tmp_path, None)
        == "random weights; frozen: none"
    )
    assert torch.equal(head.backbone.get_parameter("conv1.weight"), before)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.safetensors", "C:\\\\secret.pt"])
@pytest.mark.parametrize("key", ["weights", "corrections"])
def test_a_checkpoint_that_names_a_file_outside_is_refused(tmp_path: Path, name: str, key: str) -> None:
    config = config_of(AGE_LABEL)
    plain = config.model_dump()
    if key == "weights":
        plain["backbone"]["weights"] = name
    else:
        plain["corrections"] = name
    head, path = build_head(config), tmp_path / "best.safetensors"
    save_head(path, head, plain, {})
    told = load_head(path).config  # what we write ourselves has the name alone
    assert "/" not in f"{told.backbone.weights}{told.corrections}"
    save_tensors(path, head.state_dict(), {"config": plain})
    with pytest.raises(InputError, match="outside of its folder; expected a name alone"):
        load_head(path)
