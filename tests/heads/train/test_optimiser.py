"""Optimisers decay and scale the right parameters; schedules run through the rates that PyTorch's own do."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from heads.model.backbones import freeze
from heads.model.head import Head
from heads.train.optimiser import WARMUP_START, make_optimiser, make_schedule

BACKBONE_LR = 0.25


def tiny_parts() -> tuple[nn.Module, nn.Module]:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Sequential(nn.Linear(4, 2))


def tiny_optimiser(name: str = "sgd", lr: float = 0.1, trunk_lr: float = BACKBONE_LR) -> Optimizer:
    return make_optimiser(*tiny_parts(), name, lr, trunk_lr)


def rates(name: str, epochs: int, steps: int, **options: float) -> list[float]:
    """The classifier's rate at each batch of a run."""
    optimiser = tiny_optimiser()
    schedule = make_schedule(optimiser, name, epochs, steps, **options)
    result = []
    for _ in range(epochs * steps):
        result.append(optimiser.param_groups[-1]["lr"])
        optimiser.step()
        schedule.step()
    return result


@pytest.mark.parametrize("frozen", ["none", "layer3", "all"])
def test_every_parameter_that_trains_is_in_exactly_one_group(frozen: str) -> None:
    head = Head("resnet18", 3, hidden=[8])
    freeze(head.backbone, frozen)
    optimiser = make_optimiser(head.backbone, head.classifier, "adamw", 1e-3, BACKBONE_LR, 0.05)
    grouped = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in head.parameters() if p.requires_grad)


def test_biases_and_batch_norm_are_not_decayed_and_the_backbone_has_its_own_rate() -> None:
    head = Head("resnet18", 3, hidden=[8])
    norms = {id(p) for m in head.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    biases = {id(p) for name, p in head.named_parameters() if name.endswith("bias")}
    backbone = {id(p) for p in head.backbone.parameters()}
    for group in make_optimiser(head.backbone, head.classifier, "adamw", 1e-3, BACKBONE_LR, 0.05).param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.0 if id(parameter) in norms | biases else 0.05)
            assert group["lr"] == (1e-3 * BACKBONE_LR if id(parameter) in backbone else 1e-3)


@pytest.mark.parametrize("frozen", ["none", "layer2"])
def test_each_stage_learns_at_its_share_of_the_next_ones_rate(frozen: str) -> None:
    head = Head("resnet18", 3)
    freeze(head.backbone, frozen)
    optimiser = make_optimiser(head.backbone, head.classifier, "adamw", 1e-3, BACKBONE_LR, 0.05, stage_lr=0.5)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    names = {name: rates[id(p)] for name, p in head.named_parameters() if p.requires_grad}
    assert len(rates) == len(names)
    last = {"layer4": 1, "layer3": 2, "layer2": 4, "layer1": 8, "conv1": 16, "bn1": 16}
    for name, rate in names.items():
        part, stage = name.split(".")[:2]
        assert rate == pytest.approx(1e-3 if part == "classifier" else 1e-3 * BACKBONE_LR / last[stage])


@pytest.mark.parametrize(("name", "kind"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")])
def test_optimisers_go_by_name(name: str, kind: str) -> None:
    assert type(tiny_optimiser(name)).__name__ == kind


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_takes_its_momentum_also_none(momentum: float) -> None:
    optimiser = make_optimiser(*tiny_parts(), "sgd", 0.1, momentum=momentum)
    assert {group["momentum"] for group in optimiser.param_groups} == {momentum}


@pytest.mark.parametrize("warmup", [0.0, 0.3])
def test_one_cycle_is_pytorchs_over_the_whole_run(warmup: float) -> None:
    optimiser = SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = OneCycleLR(optimiser, max_lr=0.1, epochs=4, steps_per_epoch=10, pct_start=warmup or 0.01)
    expected = []
    for _ in range(40):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step() if len(expected) < 40 else None
    assert rates("one_cycle", 4, 10, warmup=warmup) == pytest.approx(expected)


def momenta(optimiser: Optimizer, schedule: LRScheduler, steps: int) -> list[list[float]]:
    """Of each group at each batch of a run: the momentum, or the first beta."""
    result = []
    for _ in range(steps):
        result.append(
            [group["betas"][0] if "betas" in group else group["momentum"] for group in optimiser.param_groups]
        )
        optimiser.step()
        schedule.step()
    return result


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "step"])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_momentum_of_sgd_holds_along_the_schedule(name: str, momentum: float) -> None:
    optimiser = make_optimiser(*tiny_parts(), "sgd", 0.1, momentum=momentum)
    found = momenta(optimiser, make_schedule(optimiser, name, 3, 5, warmup=0.3), 15)
    assert found == [[momentum] * len(optimiser.param_groups)] * 15


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_one_cycle_moves_beta_as_pytorchs_own_does_to_the_bit(name: str) -> None:
    ours, theirs = tiny_optimiser(name), tiny_optimiser(name)
    peaks = [group["lr"] for group in theirs.param_groups]
    cycle = OneCycleLR(theirs, max_lr=peaks, total_steps=20, pct_start=0.3)
    found = momenta(ours, make_schedule(ours, "one_cycle", 4, 5, warmup=0.3), 20)
    assert found == momenta(theirs, cycle, 20)
    assert found[0][0] == 0.95
    assert found[5][0] == 0.85


@pytest.mark.parametrize("name", ["cosine", "step"])
def test_other_schedules_leave_beta_alone(name: str) -> None:
    optimiser = tiny_optimiser("adamw")
    found = momenta(optimiser, make_schedule(optimiser, name, 2, 5, warmup=0.3), 10)
    assert found == [[0.9] * len(optimiser.param_groups)] * 10


def test_cosine_rises_in_a_line_and_falls_to_nothing() -> None:
    found = rates("cosine", 5, 20, warmup=0.1)
    assert found[:11] == pytest.approx([0.1 * (WARMUP_START + (1 - WARMUP_START) * i / 10) for i in range(11)])
    assert max(found) == pytest.approx(0.1)
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[55] == pytest.approx(0.05)
    assert found[-1] < 1e-4


def test_step_falls_by_its_factor_every_so_many_epochs() -> None:
    found = rates("step", 6, 3, step_epochs=2, step_factor=0.1)
    assert found == pytest.approx([0.1] * 6 + [0.01] * 6 + [0.001] * 6)


@pytest.mark.parametrize(("warmup", "rising"), [(0.1, 2), (0.3, 7), (0.5, 12), (0.9, 22)])
def test_step_falls_where_epochs_end_also_after_a_warm_up_and_within_it(warmup: float, rising: int) -> None:
    found = rates("step", 6, 4, warmup=warmup, step_epochs=2, step_factor=0.1)
    shares = [WARMUP_START + (1 - WARMUP_START) * min(step / rising, 1) for step in range(24)]
    steps = [1.0] * 8 + [0.1] * 8 + [0.01] * 8
    assert found == pytest.approx([0.1 * share * step for share, step in zip(shares, steps, strict=True)])


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "step"])
def test_backbone_and_classifier_keep_their_ratio_along_the_schedule(name: str) -> None:
    optimiser = tiny_optimiser()
    schedule = make_schedule(optimiser, name, 2, 5, warmup=0.2)
    for _ in range(9):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(BACKBONE_LR * optimiser.param_groups[-1]["lr"])
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "step"])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.3, 0.99])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 1), (3, 1), (1, 4), (1, 7)])
def test_the_shortest_runs_have_a_rate_at_every_batch(
    name: str, warmup: float, epochs: int, steps: int
) -> None:
    found = rates(name, epochs, steps, warmup=warmup)
    assert len(found) == epochs * steps
    assert all(0 < rate <= 0.1 + 1e-9 for rate in found)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown optimiser 'lion'"):
        tiny_optimiser("lion")
    with pytest.raises(ValueError, match="unknown schedule 'linear'"):
        make_schedule(tiny_optimiser(), "linear", 1, 1)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_moments_out_of_a_checkpoint_meet_the_weights_that_they_belong_to(name: str) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    second, classifier = copy.deepcopy(first), nn.Linear(2, 2)
    gradients = [torch.randn_like(first.weight) for _ in range(3)]  # channels last, as convolutions give them

    def step(conv: nn.Conv2d, optimiser: Optimizer, gradient: torch.Tensor) -> None:
        conv.weight.grad, conv.bias.grad = gradient.clone(), torch.zeros_like(conv.bias)
        optimiser.step()

    before = make_optimiser(first, classifier, name, 0.1, weight_decay=0.1)
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    options = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    plain: Optimizer = kinds[name](second.parameters(), lr=0.1, weight_decay=0.1, foreach=False, **options)
    for gradient in gradients[:2]:
        step(first, before, gradient)
        step(second, plain, gradient)
    state = before.state_dict()
    for slots in state["state"].values():
        slots |= {key: value.contiguous() for key, value in slots.items()}  # as a file has them
    resumed = make_optimiser(first, classifier, name, 0.1, weight_decay=0.1)
    resumed.load_state_dict(state)
    step(first, resumed, gradients[2])
    step(second, plain, gradients[2])
    torch.testing.assert_close(first.weight, second.weight)
