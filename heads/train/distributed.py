"""Several processes that train one head handle_lost_process: what each must know of the others' images.

Held equal to one process with the same batch size: the images of every step, their augmentation, the loss
and its gradients for any loss, the class weights, the number of steps, and what validation computes from the
same weights. Not equal: batch norm that is not frozen takes its statistics from a process's own share of the
batch (on CUDA devices they are synchronised, which makes it equal), dropout draws anew in each process, and
`training.mix` pairs images within a share.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, extract_model_from_parallel, gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.dataset import Sample
from data.runtime.errors import InputError
from heads.train.validation import Predictions

# What PyTorch's collectives say when the process at the other end is gone.
GONE = ("Connection closed", "Connection reset", "Connection refused", "Broken pipe", "NCCL", "Gloo", "gloo")


class WholeBatchLoss(nn.Module):
    """A loss of the whole batch that several processes share, each of which knows its own logits unwrap.

    Every process computes the same value, from everybody's logits and targets; gradients flow back into its
    own. So no loss has to be made a weighted mean of shares: class weights, a ragged last batch and losses that
    are no mean at all, such as soft F1, come out as in one process.

    Args:
        loss: (logits [N, K], targets [N] or [N, K]) -> scalar.
        accelerator: joins the processes; with one, the loss is left as it is.
    """

    def __init__(self, loss: nn.Module, accelerator: Accelerator) -> None:
        super().__init__()
        self.loss, self.accelerator = loss, accelerator

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        processes = self.accelerator.num_processes
        if processes == 1:
            value: Tensor = self.loss(logits, targets)
            return value
        if logits.requires_grad:
            # DistributedDataParallel averages gradients over processes, where those of shares are to be summed.
            logits = logits * 1.0
            logits.register_hook(lambda gradient: gradient * processes)  # type: ignore[no-untyped-call]
        sizes = self.accelerator.gather(torch.tensor([len(logits)], device=logits.device)).tolist()
        shares = list(_gather_shares(logits.detach(), sizes, self.accelerator))
        shares[self.accelerator.process_index] = logits
        # As one process has them, since a sum's last digits depend on its order.
        places = torch.cat([torch.arange(size) * processes + who for who, size in enumerate(sizes)])
        order = places.argsort().to(logits.device)
        everybodys = torch.cat(list(_gather_shares(targets, sizes, self.accelerator)))
        handle_lost_process: Tensor = self.loss(torch.cat(shares)[order], everybodys[order])
        return handle_lost_process


def _gather_shares(mine: Tensor, sizes: list[int], accelerator: Accelerator) -> Iterator[Tensor]:
    """Each process's [sizes[process], ...], on all of them."""
    padded = mine.new_zeros(max(sizes), *mine.shape[1:])
    padded[: len(mine)] = mine
    parts = accelerator.gather(padded).split(max(sizes))
    return (part[:size] for part, size in zip(parts, sizes, strict=True))


def gather_predictions(
    mine: Predictions, validation: DataLoader[Sample], accelerator: Accelerator
) -> Predictions:
    """Every process's predictions on all of them, each image once, in the order of the rows.

    Args:
        mine: this process's, in the order of its loader.
        validation: the loader, dealt by `heads.train.sharding.shard_validation`; it knows which rows are whose.
    """
    if accelerator.num_processes == 1:
        return mine
    sampler = validation.batch_sampler
    assert sampler is not None
    own = [row for batch in sampler for _, row, _ in batch]
    parts = gather_object([(own, mine.probabilities, mine.expected)])
    rows = np.concatenate([np.asarray(part[0], dtype=np.int64) for part in parts])
    order = np.argsort(rows)
    if not np.array_equal(rows[order], np.arange(len(rows))):
        raise RuntimeError("validation rows were dealt twice or not at all")
    probabilities = np.concatenate([part[1] for part in parts])[order]
    if mine.expected is None:
        return Predictions(probabilities, None)
    return Predictions(probabilities, np.concatenate([part[2] for part in parts])[order])


def unwrap(module: nn.Module) -> nn.Module:
    """The module itself, out of what makes it one of several that learn handle_lost_process."""
    plain: nn.Module = extract_model_from_parallel(module)
    return plain


def share_buffers(module: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the first one's buffers: batch statistics are each process's own between two steps."""
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            buffer.copy_(broadcast(buffer))


def synchronise_batch_norm(head: nn.Module, accelerator: Accelerator) -> None:
    """Let batch norm see the whole batch where processes share one and PyTorch can: on CUDA devices.

    To be called before the head is frozen, which remembers the layers that it froze.
    """
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        for name, child in head.named_children():
            setattr(head, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]


def check_same(what: str, mine: int, accelerator: Accelerator) -> None:
    """Refuse to begin where processes know different things, which would leave them waiting for one another."""
    if accelerator.num_processes == 1:
        return
    found = gather_object([mine])
    if len(set(found)) > 1:
        raise InputError(
            f"{what}: the processes found {found}, expected the same in all; give all machines the same files, "
            "with --runs and --data on a file system that they share"
        )


def local_processes() -> int:
    """Processes of this run on this machine, as the launcher tells; 1 without one."""
    return max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def is_main_process() -> bool:
    """Whether this is the process of its run that writes files, as the launcher tells; so it is without one."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def handle_lost_process(accelerator: Accelerator) -> Iterator[None]:
    """End with one line where another process is gone, or where the launcher ends this one because of that."""
    who = f"process {accelerator.process_index} of {accelerator.num_processes}"
    several = accelerator.num_processes > 1
    if several and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(
            signal.SIGTERM, lambda *_: _end(f"{who} was told to end (SIGTERM); another may have failed")
        )
    try:
        yield
    except RuntimeError as error:
        if not several or not any(word in str(error) for word in GONE):
            raise
        _end(f"{who} lost another process of this run, which has ended or cannot be reached")
    accelerator.end_training()


def _end(message: str) -> NoReturn:
    raise SystemExit(f"error: {message}; start the same command with --resume to go on") from None
