"""What changes while a head is trained: weights, their average, the states of optimiser and schedule."""

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from heads.train.distributed import unwrap
from heads.train.progress import Progress
from heads.train.settings import Record


@dataclass
class TrainState:
    """What changes while a head is trained; all of it is saved to go on exactly."""

    head: nn.Module
    optimiser: Optimizer
    schedule: LRScheduler
    average: AveragedModel | None = None
    history: list[Record] = field(default_factory=list)
    steps_per_epoch: int = 0
    progress: Progress = field(default_factory=Progress)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules with state, by name."""
        return {"head": unwrap(self.head)} | ({} if self.average is None else {"average": self.average})

    @property
    def judged(self) -> nn.Module:
        """What is validated and kept: the average of weights where there is one."""
        return unwrap(self.head) if self.average is None else self.average.module


def make_average(head: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch statistics (Polyak & Juditsky 1992).

    The decay rises to `decay` as TensorFlow's does (tf.train.ExponentialMovingAverage with `num_updates`):
    after n updates it is at most (1 + n) / (10 + n), so that a short run does not end with its first weights.
    """

    def update(average: PARAM_LIST, current: PARAM_LIST, updates: int | Tensor) -> None:
        rising = (1 + int(updates)) / (10 + int(updates))
        move = get_ema_multi_avg_fn(min(decay, rising))  # type: ignore[no-untyped-call]
        move(average, current, updates)

    return AveragedModel(head, multi_avg_fn=update, use_buffers=True)
