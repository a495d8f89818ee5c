"""Batches of images (or kept features) for one head, ready for whoever deals them to processes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from data.dataset import Sample
from data.runtime.errors import InputError
from data.runtime.processes import usable_workers
from data.runtime.signals import init_worker
from heads.train.distributed import local_processes

STRIDE = 32  # of a resnet's last stage: of smaller images it sees one place


def check_batch_size(size: Sequence[int], rows: int, batch_size: int, processes: int) -> None:
    """Refuse batches of which batch norm would be shown a single value of a channel, which it cannot train on.

    Args:
        size: height and width of the images.
        rows: that an epoch draws.
        batch_size: of all processes together.
        processes: that share each batch.

    Raises:
        InputError: images are so small that the last stage has one place, and some share is one image.
    """
    last = rows % batch_size or batch_size
    if max(size) <= STRIDE and last < 2 * processes:
        raise InputError(
            f"training.batch_size={batch_size}: of {rows} images an epoch the last {last} come together, "
            f"processes: {processes}, and from one image of {size[0]}x{size[1]} batch norm cannot learn; "
            f"expected another batch size, or images larger than {STRIDE}x{STRIDE}"
        )


def make_loader(
    images: Dataset[Sample], sampler: Any, batch_size: int, workers: int | None, seed: int
) -> DataLoader[Any]:
    """Batches of `images` in the sampler's order, each once an epoch, the last one as long as it comes.

    Args:
        images: indexed by what `sampler` draws, gives a `Sample`.
        sampler: its draws are those of `heads.train.sampler.BalancedSampler`.
        batch_size: of all processes that train a head together.
        workers: processes that load; None takes one a core, up to 8, and 0 this process alone.
        seed: of the workers; what they augment is seeded by the draw, whichever worker it is.
    """
    count = usable_workers(workers, local_processes())
    return DataLoader(
        images,
        batch_size,
        sampler=sampler,
        num_workers=count,
        worker_init_fn=init_worker,
        persistent_workers=count > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),  # else starting an epoch draws from dropout's generator
    )
