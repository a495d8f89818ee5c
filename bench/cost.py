"""What an image costs: GFLOP of a head's pass, and of an ensemble's answer with shared layers."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from data.dataset import Sample
from ensemble.backends.engines import input_size
from ensemble.inference.predictor import Predictor
from heads.load import TrainedHead


def head_gflop(trained: TrainedHead) -> float:
    """GFLOP of one image in one view, by PyTorch's count: two for each multiplication and addition."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        trained.head(torch.zeros(1, 3, *input_size(trained)))
    return float(counter.get_total_flops()) / 1e9


def answer_gflop(predictor: Predictor) -> float:
    """GFLOP of one image in all views of all heads of a predictor of PyTorch."""
    heads = [next(iter(group.tasks.values())).heads[0] for group in predictor.groups]
    pixels = [torch.zeros(1, 3, *input_size(head), dtype=torch.uint8) for head in heads]
    with FlopCounterMode(display=False) as counter:
        predictor(Sample(pixels, torch.zeros(1), [""]))
    return float(counter.get_total_flops()) / 1e9
