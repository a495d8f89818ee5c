"""Optimisers decay and scale the right parameters; schedules and moments are PyTorch's own."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from heads.model.head import Head
from heads.objective.ordinal import CoralLayer
from heads.train.optimiser import WARMUP_START, make_average, make_optimiser, make_schedule

BACKBONE_LR = 0.25
SCHEDULES = ("one_cycle", "cosine", "step")


def tiny_optimiser(name: str = "sgd") -> Optimizer:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return make_optimiser(backbone, nn.Linear(4, 2), name, 0.1, BACKBONE_LR)


def walk(optimiser: Optimizer, name: str, epochs: int, steps: int, **options: float) -> tuple[list[float], list[float]]:
    """Rates of the classifier, and momentum or first beta of all groups, at each batch of a run."""
    schedule = make_schedule(optimiser, name, epochs, steps, **options)
    rates, momenta = [], []
    for _ in range(epochs * steps):
        first, last = optimiser.param_groups[0], optimiser.param_groups[-1]
        assert first["lr"] == pytest.approx(BACKBONE_LR * last["lr"])
        rates.append(last["lr"])
        [momentum] = {group["betas"][0] if "betas" in group else group["momentum"] for group in optimiser.param_groups}
        momenta.append(momentum)
        optimiser.step()
        schedule.step()
    return rates, momenta


@pytest.mark.parametrize(("frozen", "stage_lr"), [("none", 1.0), ("none", 0.5), ("layer2", 0.5), ("all", 1.0)])
def test_every_trained_parameter_has_its_rate_and_decay_in_one_group(frozen: str, stage_lr: float) -> None:
    head = Head("resnet18", 3, hidden=[8])
    head.freeze(frozen)
    optimiser = make_optimiser(head.backbone, head.classifier, "adamw", 1e-3, BACKBONE_LR, 0.05, stage_lr=stage_lr)
    groups = [(id(p), group) for group in optimiser.param_groups for p in group["params"]]
    trained = {name: p for name, p in head.named_parameters() if p.requires_grad}
    assert sorted(key for key, _ in groups) == sorted(map(id, trained.values()))
    norms = {id(p) for m in head.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    depths = {"layer4": 0, "layer3": 1, "layer2": 2, "layer1": 3, "conv1": 4, "bn1": 4}
    for name, parameter in trained.items():
        group, (part, stage) = dict(groups)[id(parameter)], name.split(".")[:2]
        rate = 1e-3 if part == "classifier" else 1e-3 * BACKBONE_LR * stage_lr ** depths[stage]
        assert group["lr"] == pytest.approx(rate)
        assert group["weight_decay"] == (0.0 if id(parameter) in norms or name.endswith("bias") else 0.05)


def test_corals_biases_have_a_rate_of_their_own() -> None:
    coral = CoralLayer(4, 2)
    groups = make_optimiser(nn.Conv2d(3, 4, 3), coral, "adamw", 0.1, weight_decay=0.05, coral_lr=0.5).param_groups
    found = [(group["lr"], group["weight_decay"]) for group in groups if group["params"][0] is coral.bias]
    assert found == [(0.5, 0.0)]
    assert groups[-1]["lr"] == 0.1  # that of the history
    assert [id(p) for p in groups[-1]["params"]] == [id(coral.weight.weight)]


@pytest.mark.parametrize("warmup", [0.0, 0.3])
@pytest.mark.parametrize("name", ["sgd", "adamw", "adam"])
def test_one_cycle_is_pytorchs_over_the_whole_run(name: str, warmup: float) -> None:
    ours, theirs = tiny_optimiser(name), tiny_optimiser(name)
    peaks = [group["lr"] for group in theirs.param_groups]
    cycle = OneCycleLR(theirs, peaks, total_steps=20, pct_start=warmup or 0.01, cycle_momentum=name != "sgd")
    rates, momenta = walk(ours, "one_cycle", 4, 5, warmup=warmup)
    for rate, momentum in zip(rates, momenta, strict=True):
        group = theirs.param_groups[-1]
        assert (rate, momentum) == (group["lr"], group["momentum"] if name == "sgd" else group["betas"][0])
        theirs.step()
        cycle.step() if cycle.last_epoch < 19 else None


def test_cosine_rises_linearly_and_falls_to_zero() -> None:
    rates, _ = walk(tiny_optimiser(), "cosine", 5, 20, warmup=0.1)
    assert rates[:11] == pytest.approx([0.1 * (WARMUP_START + (1 - WARMUP_START) * i / 10) for i in range(11)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.05)
    assert rates[-1] < 1e-4


@pytest.mark.parametrize(("warmup", "rising"), [(0.0, 0), (0.1, 2), (0.3, 7), (0.9, 22)])
def test_step_falls_at_the_ends_of_epochs_also_within_a_warm_up(warmup: float, rising: int) -> None:
    rates, _ = walk(tiny_optimiser(), "step", 6, 4, warmup=warmup, step_epochs=2, step_factor=0.1)
    shares = [WARMUP_START + (1 - WARMUP_START) * min(step / rising, 1) if rising else 1.0 for step in range(24)]
    steps = [1.0] * 8 + [0.1] * 8 + [0.01] * 8
    assert rates == pytest.approx([0.1 * share * step for share, step in zip(shares, steps, strict=True)])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.3, 0.99])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 1), (3, 1), (1, 4), (1, 7)])
def test_the_shortest_runs_have_a_rate_at_every_batch(name: str, warmup: float, epochs: int, steps: int) -> None:
    rates, _ = walk(tiny_optimiser(), name, epochs, steps, warmup=warmup)
    assert all(0 < rate <= 0.1 + 1e-9 for rate in rates)


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("adam", Adam), ("sgd", SGD)])
def test_moments_from_a_checkpoint_meet_their_weights(name: str, kind: type[Optimizer]) -> None:
    first = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    second, gradients = copy.deepcopy(first), [torch.randn_like(first.weight) for _ in range(3)]

    def step(conv: nn.Conv2d, optimiser: Optimizer, gradient: torch.Tensor) -> None:
        conv.weight.grad, conv.bias.grad = gradient.clone(), torch.zeros_like(conv.bias)
        optimiser.step()

    before, resumed = (make_optimiser(first, nn.Linear(2, 2), name, 0.1, weight_decay=0.1) for _ in range(2))
    options = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    plain = kind(second.parameters(), lr=0.1, weight_decay=0.1, foreach=False, **options)
    for gradient in gradients[:2]:
        step(first, before, gradient)
        step(second, plain, gradient)
    state = before.state_dict()
    for slots in state["state"].values():
        slots |= {key: value.contiguous() for key, value in slots.items()}  # as in a file
    resumed.load_state_dict(state)
    step(first, resumed, gradients[2])
    step(second, plain, gradients[2])
    torch.testing.assert_close(first.weight, second.weight)


def test_the_average_is_exponential_with_a_decay_that_rises_as_tensorflows() -> None:
    model = nn.BatchNorm1d(2)
    average, expected = make_average(model, 0.75), 0.0
    for updates in range(40):  # the decay reaches 0.75 at the 26th
        value = float(updates % 7)
        nn.init.constant_(model.weight, value)
        nn.init.constant_(model.running_mean, 10 * value)
        average.update_parameters(model)
        decay = min(0.75, (1 + updates) / (10 + updates)) if updates else 0.0
        expected = decay * expected + (1 - decay) * value
    assert average.module.weight.tolist() == pytest.approx([expected] * 2)
    assert average.module.running_mean.tolist() == pytest.approx([10 * expected] * 2)
