"""PyTorch's loader of batches, whose worker processes end with the program."""

import atexit
from typing import Any
from weakref import WeakSet

from torch.utils.data import DataLoader, Dataset

from data.dataset import Sample
from data.runtime.signals import init_worker

_iterators: WeakSet[Any] = WeakSet()  # those with workers


class Loader(DataLoader[Sample]):
    """A `DataLoader` whose workers leave signals to their parent (`init_worker`) and end when it exits."""

    def __init__(self, images: Dataset[Sample], **options: Any) -> None:
        super().__init__(images, worker_init_fn=init_worker, **options)

    def __iter__(self) -> Any:
        batches = super().__iter__()
        if self.num_workers:
            _iterators.add(batches)
        return batches


# The traceback of an error, or a cycle, keeps an iterator until Python's exit, which sends its workers a single
# SIGTERM. They ignore it as the group's, and the exit would wait for them forever.
@atexit.register
def _end_workers() -> None:
    for batches in list(_iterators):
        batches._shutdown_workers()
