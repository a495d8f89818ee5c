"""An epoch's one list of images, dealt out to the processes that train one head together.

Every process draws the same list (it depends on seed and epoch alone) and takes its own share of each batch, so
that the batch size, the steps of an epoch and the images of a step are those of one process. A weighted
sampler that each process draws for itself would show some images to several of them and others to none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from data.dataset import Sample, SampleIndex


@dataclass
class _Part(Sampler[list[SampleIndex]]):
    """What one process takes of `batches`, a BatchSampler (which PyTorch takes to hold bare indices)."""

    batches: Any
    processes: int
    process: int

    @property
    def batch_size(self) -> int:
        """Rows of a whole batch."""
        return int(self.batches.batch_size)


class BatchShares(_Part):
    """Of each batch every `processes`-th row, from `process` on; empty where there is none left.

    >>> from torch.utils.data import BatchSampler
    >>> whole = BatchSampler([(0, row, 0) for row in (5, 6, 7, 8)], batch_size=3, drop_last=False)
    >>> list(BatchShares(whole, 2, 1)), list(BatchShares(whole, 2, 0))
    ([[(0, 6, 0)], []], [[(0, 5, 0), (0, 7, 0)], [(0, 8, 0)]])
    """

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        return (batch[self.process :: self.processes] for batch in self.batches)


class WholeBatches(_Part):
    """Every `processes`-th batch, from `process` on: each as one process alone would see it.

    >>> from torch.utils.data import BatchSampler
    >>> whole = BatchSampler([(0, row, 0) for row in (5, 6, 7, 8)], batch_size=3, drop_last=False)
    >>> list(WholeBatches(whole, 2, 0)), list(WholeBatches(whole, 2, 1))
    ([[(0, 5, 0), (0, 6, 0), (0, 7, 0)]], [[(0, 8, 0)]])
    """

    def __len__(self) -> int:
        return len(range(self.process, len(self.batches), self.processes))

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        return (batch for place, batch in enumerate(self.batches) if place % self.processes == self.process)


def shard_training(loader: DataLoader[Any], accelerator: Accelerator) -> DataLoader[Any]:
    """This process's part of a training loader: its share of every batch, on its device."""
    return _shard(loader, BatchShares, accelerator)


def shard_validation(loader: DataLoader[Any], accelerator: Accelerator) -> DataLoader[Any]:
    """This process's part of a validation loader: whole batches, no row twice, on its device.

    Whole ones, because an image's last digits depend on how many others it is computed with.
    """
    return _shard(loader, WholeBatches, accelerator)


def _shard(loader: DataLoader[Any], how: Any, accelerator: Accelerator) -> DataLoader[Any]:
    if accelerator.num_processes > 1:
        part = how(loader.batch_sampler, accelerator.num_processes, accelerator.process_index)
        loader = DataLoader(
            loader.dataset,
            batch_sampler=part,
            num_workers=loader.num_workers,
            persistent_workers=loader.persistent_workers,
            pin_memory=loader.pin_memory,
            generator=loader.generator,
            collate_fn=partial(_collate, loader.dataset),
        )
    # Dealt already: left to itself, accelerate would deal once more and pad the last batch with doubles.
    whole: DataLoader[Any] = prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        non_blocking=True,  # out of pinned memory, while the step before is computed
    )
    return whole


def _collate(dataset: Dataset[Sample], samples: list[Sample]) -> Sample:
    """A batch of samples; without any, tensors [0, ...], so that all processes take every step."""
    batch: Sample = default_collate(samples or [dataset[(0, 0, 0)]])
    if not samples:
        batch = Sample([part[:0] for part in batch.pixels], batch.target[:0], [])
    return batch
