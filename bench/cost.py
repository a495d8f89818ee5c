"""What an image costs: GFLOP of one pass of a head."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from ensemble.backends.engines import input_size
from heads.load import TrainedHead


def count_gflop(trained: TrainedHead) -> float:
    """GFLOP of one image in one view, by PyTorch's count: two for each multiplication and addition."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        trained.head(torch.zeros(1, 3, *input_size(trained)))
    return float(counter.get_total_flops()) / 1e9
