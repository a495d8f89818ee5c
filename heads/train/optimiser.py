"""Optimisers and learning-rate schedules by name, all PyTorch's own."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from heads.model.backbones import STAGES

WARMUP_START = 0.01


def make_optimiser(
    backbone: nn.Module,
    classifier: nn.Module,
    name: str,
    lr: float,
    trunk_lr: float = 1.0,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    stage_lr: float = 1.0,
) -> Optimizer:
    """An optimiser over what is not frozen: the classifier at `lr`, the backbone at `lr * trunk_lr`.

    Biases and batch norm are not decayed: decay is for weights that multiply activations.

    Args:
        name: adamw, adam or sgd.
        momentum: read by sgd alone, in all schedules; one_cycle moves the first beta of adamw and adam.
        stage_lr: each stage of the backbone learns at this share of the rate of the next one (Howard & Ruder 2018,
            doi:10.18653/v1/P18-1031); the last one at the backbone's rate.
    """
    rates = [*_stage_rates(backbone, lr * trunk_lr, stage_lr), (classifier, lr)]
    groups = [group for module, rate in rates for group in _groups(module, rate, weight_decay)]
    optimiser: Optimizer
    # Fused: one pass over the weights in place of one for each operation.
    if name == "adamw":
        optimiser = AdamW(groups, lr=lr, fused=True)
    elif name == "adam":
        optimiser = Adam(groups, lr=lr, fused=True)
    elif name == "sgd":
        optimiser = SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True)
    else:
        raise ValueError(f"unknown optimiser {name!r}")
    optimiser.register_load_state_dict_post_hook(_lay_as_parameters)
    return optimiser


def _lay_as_parameters(optimiser: Optimizer) -> None:
    """Lay what was loaded out in memory as the parameters are.

    The fused kernels walk parameter, gradient and moments in the order of memory, whatever their strides: a
    checkpoint's moments, which lie row by row, would meet the wrong weights of a channels-last convolution.
    """
    for parameter, slots in optimiser.state.items():
        for name, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def make_schedule(
    optimiser: Optimizer,
    name: str,
    epochs: int,
    steps_per_epoch: int,
    warmup: float = 0.0,
    step_epochs: int = 1,
    step_factor: float = 0.1,
) -> LRScheduler:
    """A schedule to be stepped after every batch.

    Args:
        name: one_cycle (Smith & Topin 2017, arXiv:1708.07120), cosine to zero, or step. Of adamw and adam
            one_cycle also moves the first beta, from 0.95 to 0.85 as the rate rises and back as it falls; the
            momentum of sgd stays as it is.
        warmup: share of all steps that the rate rises, linearly (one_cycle: along its cosine).
        step_epochs, step_factor: step multiplies the rate by the factor every so many epochs from the first one
            on, also while it rises.
    """
    steps = epochs * steps_per_epoch
    if name == "one_cycle":
        peaks = [group["lr"] for group in optimiser.param_groups]
        # Of a step or two, or with a rise of exactly one, the cycle's own arithmetic divides by zero.
        total, rise = max(steps, 4), max(warmup, 0.01)
        rise = rise * 0.99 if rise * total == 1 else rise
        # Of sgd it would put 0.95 to 0.85 in the place of the momentum that was asked for.
        moves_beta = "betas" in optimiser.defaults
        return OneCycleLR(optimiser, peaks, total, pct_start=rise, cycle_momentum=moves_beta)
    rising = round(warmup * steps)
    main: LRScheduler
    if name == "cosine":
        main = CosineAnnealingLR(optimiser, T_max=max(steps - rising, 1))
    elif name == "step":
        main = StepLR(optimiser, step_size=step_epochs * steps_per_epoch, gamma=step_factor)
    else:
        raise ValueError(f"unknown schedule {name!r}")
    if not rising:
        return main
    first = LinearLR(optimiser, start_factor=WARMUP_START, total_iters=rising)
    if name == "step":  # after the warm-up, one at a time, it would fall in the middle of epochs
        return ChainedScheduler([main, first])
    return SequentialLR(optimiser, [first, main], milestones=[rising])


def _stage_rates(backbone: nn.Module, lr: float, stage_lr: float) -> list[tuple[nn.Module, float]]:
    """Parts of the backbone with their rates; the whole of it where all stages learn alike."""
    if stage_lr == 1.0:
        return [(backbone, lr)]
    stages = [nn.ModuleList(map(backbone.get_submodule, names)) for names in STAGES.values()]
    return [(stage, lr * stage_lr**depth) for depth, stage in enumerate(reversed(stages))]


def _groups(module: nn.Module, lr: float, weight_decay: float) -> Iterator[dict[str, Any]]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    for decayed in (True, False):
        # Biases and batch norm are vectors; every weight that multiplies activations has more dimensions.
        group = [p for p in parameters if (p.ndim > 1) == decayed]
        if group:
            yield {"params": group, "lr": lr, "weight_decay": weight_decay if decayed else 0.0}
