"""PyTorch's optimisers and learning-rate schedules by name, and the moving average of the weights."""

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
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from heads.model.head import STAGES
from heads.objective.ordinal import CoralLayer

OPTIMISERS: dict[str, type[Any]] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}
WARMUP_START = 0.01


def make_optimiser(
    backbone: nn.Module,
    classifier: nn.Module,
    name: str,
    lr: float,
    backbone_lr: float = 1.0,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    stage_lr: float = 1.0,
    coral_lr: float = 0.05,
) -> Optimizer:
    """Make an optimiser of the parameters that are not frozen.

    Biases and batch norm are not decayed: decay is for weights that multiply activations.

    Args:
        name: adamw, adam or sgd.
        lr: learning rate of the classifier.
        backbone_lr: learning rate of the backbone (its last stage), as a share of `lr`.
        momentum: of sgd, constant in all schedules; one_cycle changes the first beta of adamw and adam.
        stage_lr: learning rate of a backbone stage as a share of the next stage's (Howard & Ruder 2018,
            doi:10.18653/v1/P18-1031).
        coral_lr: learning rate of CORAL's biases, whose distances have to grow to several units.
    """
    rates = [(backbone, lr * backbone_lr)]
    if stage_lr != 1.0:
        stages = [nn.ModuleList(map(backbone.get_submodule, names)) for names in STAGES.values()]
        rates = [(stage, lr * backbone_lr * stage_lr**depth) for depth, stage in enumerate(reversed(stages))]
    rates.append((classifier, lr))
    groups = [group for module, rate in rates for group in _parameter_groups(module, rate, weight_decay, coral_lr)]
    options = {"momentum": momentum, "nesterov": momentum > 0} if name == "sgd" else {}
    # Fused: one pass over the weights instead of one for each operation.
    optimiser: Optimizer = OPTIMISERS[name](groups, lr=lr, fused=True, **options)
    optimiser.register_load_state_dict_post_hook(_match_memory_format)
    return optimiser


def _parameter_groups(module: nn.Module, lr: float, weight_decay: float, coral_lr: float) -> Iterator[dict[str, Any]]:
    biases = [layer.bias for layer in module.modules() if isinstance(layer, CoralLayer)]
    if biases:
        yield {"params": biases, "lr": coral_lr, "weight_decay": 0.0}
    parameters = [p for p in module.parameters() if p.requires_grad and all(p is not bias for bias in biases)]
    for decayed in (True, False):
        # Biases and batch norm are vectors; every weight that multiplies activations has more dimensions.
        group = [p for p in parameters if (p.ndim > 1) == decayed]
        if group:
            yield {"params": group, "lr": lr, "weight_decay": weight_decay if decayed else 0.0}


def _match_memory_format(optimiser: Optimizer) -> None:
    """Copy loaded moments into the memory format of their parameters.

    The fused kernels walk parameter, gradient and moments in the order of memory, whatever their strides: a
    checkpoint's contiguous moments would meet the wrong weights of a channels-last convolution.
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
    """Make a learning-rate schedule, to be stepped after every batch.

    Args:
        name: one_cycle (Smith & Topin 2017, arXiv:1708.07120), cosine to zero, or step. one_cycle also moves
            the first beta of adamw and adam, from 0.95 to 0.85 and back; the momentum of sgd is constant.
        warmup: share of all steps in which the rate rises, linearly (one_cycle: along its cosine).
        step_epochs, step_factor: step multiplies the rate by the factor after every `step_epochs` epochs, counted
            from the first one, also within the warm-up.
    """
    steps = epochs * steps_per_epoch
    if name == "one_cycle":
        peaks = [group["lr"] for group in optimiser.param_groups]
        # With one or two steps, or with a rise of exactly one step, the cycle's arithmetic divides by zero.
        total, rise = max(steps, 4), max(warmup, 0.01)
        rise = rise * 0.99 if rise * total == 1 else rise
        # For sgd it would replace the momentum by 0.95 to 0.85.
        moves_beta = "betas" in optimiser.defaults
        return OneCycleLR(optimiser, peaks, total, pct_start=rise, cycle_momentum=moves_beta)
    rising = round(warmup * steps)
    main: LRScheduler
    if name == "cosine":
        main = CosineAnnealingLR(optimiser, T_max=max(steps - rising, 1))
    else:
        main = StepLR(optimiser, step_size=step_epochs * steps_per_epoch, gamma=step_factor)
    if not rising:
        return main
    first = LinearLR(optimiser, start_factor=WARMUP_START, total_iters=rising)
    if name == "step":  # one after the other, it would fall in the middle of epochs
        return ChainedScheduler([main, first])
    return SequentialLR(optimiser, [first, main], milestones=[rising])


def make_average(head: nn.Module, decay: float) -> AveragedModel:
    """Make an exponential moving average of weights and batch statistics (Polyak & Juditsky 1992).

    The decay after n updates is at most (1 + n) / (10 + n), as TensorFlow's
    (tf.train.ExponentialMovingAverage with `num_updates`), so that a short run does not keep its first weights.
    """

    def update(average: PARAM_LIST, current: PARAM_LIST, updates: int | Tensor) -> None:
        limit = (1 + int(updates)) / (10 + int(updates))
        move = get_ema_multi_avg_fn(min(decay, limit))  # type: ignore[no-untyped-call]
        move(average, current, updates)

    return AveragedModel(head, multi_avg_fn=update, use_buffers=True)
