"""Several processes that train one head together, and the precision that each computes in.

With the same batch size these are equal to one process: the images of every step, their augmentation, the loss
and its gradients for any loss, the class weights, the number of steps, and validation with the same weights. Not
equal: batch norm that is not frozen uses the statistics of a process's share of the batch (on CUDA devices they are
synchronised, which makes it equal), dropout differs between processes, and `training.mix` pairs images within a
share.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel, gather_object
from torch import Tensor, nn
from torch.optim import Optimizer

from data.runtime.errors import InputError
from data.runtime.machine import gains_from_bfloat16

# Words of PyTorch's errors when another process has ended.
CONNECTION_ERRORS = (
    *("Connection closed", "Connection reset", "Connection refused", "Broken pipe"),
    *("NCCL", "Gloo", "gloo"),
)


def resolve_precision(precision: str) -> str:
    """Return accelerate's name for a precision of the YAML; `auto` is mixed precision if this device gains from it.

    Raises:
        InputError: fp16 without a CUDA device; accelerate would silently train in single precision.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise InputError(
            "training.precision: found fp16 and no CUDA device, expected one for fp16; set fp32, or auto for "
            "the fastest on this machine"
        )
    if precision != "auto":
        return {"fp32": "no"}.get(precision, precision)
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if gains_from_bfloat16() else "no"


def prepare(head: nn.Module, optimiser: Optimizer, accelerator: Accelerator) -> tuple[nn.Module, Optimizer]:
    """Prepare head and optimiser for accelerate; autocast is left to the training steps.

    accelerate would also validate the head in mixed precision, though not the average of its weights.
    """
    prepared: nn.Module
    prepared, optimiser = accelerator.prepare(head, optimiser)
    extract_model_from_parallel(prepared, keep_fp32_wrapper=False)
    return prepared, optimiser


class WholeBatchLoss(nn.Module):
    """A loss of the whole batch, of which each process computed the logits of its share.

    Every process computes the same value, from all logits and targets; gradients flow back into its own. So class
    weights, a ragged last batch and losses that are no mean, such as soft F1, equal those of one process.

    Args:
        loss: (logits [N, K], targets [N] or [N, K]) -> scalar.
    """

    def __init__(self, loss: nn.Module, accelerator: Accelerator) -> None:
        super().__init__()
        self.loss, self.accelerator = loss.to(accelerator.device), accelerator

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        processes = self.accelerator.num_processes
        value: Tensor
        if processes == 1:
            value = self.loss(logits, targets)
            return value
        if logits.requires_grad:
            # DistributedDataParallel averages gradients over processes; those of shares must be summed.
            logits = logits * 1.0
            logits.register_hook(lambda gradient: gradient * processes)  # type: ignore[no-untyped-call]
        sizes = self.accelerator.gather(torch.tensor([len(logits)], device=logits.device)).tolist()
        shares = self._gather(logits.detach(), sizes)
        shares[self.accelerator.process_index] = logits
        # In the order of one process, since a sum's last digits depend on its order.
        places = torch.cat([torch.arange(size) * processes + process for process, size in enumerate(sizes)])
        order = places.argsort().to(logits.device)
        value = self.loss(torch.cat(shares)[order], torch.cat(self._gather(targets, sizes))[order])
        return value

    def _gather(self, share: Tensor, sizes: list[int]) -> list[Tensor]:
        """Gather every process's share [sizes[process], ...]."""
        padded = share.new_zeros(max(sizes), *share.shape[1:])
        padded[: len(share)] = share
        parts = self.accelerator.gather(padded).split(max(sizes))
        return [part[:size] for part, size in zip(parts, sizes, strict=True)]


def synchronise_batch_norm(head: nn.Module, accelerator: Accelerator) -> None:
    """Let batch norm use the statistics of the whole batch with several CUDA devices.

    Call it before freezing the head, which stores the frozen layers.
    """
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        for name, child in head.named_children():
            setattr(head, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]


def check_same(what: str, value: int, accelerator: Accelerator) -> None:
    """Refuse to start if processes have different values, which would make them wait for one another."""
    found = gather_object([value]) if accelerator.num_processes > 1 else [value]
    if len(set(found)) > 1:
        raise InputError(
            f"{what}: the processes found {found}, expected the same in all; give all machines the same files, "
            "with --runs and --data on a shared file system"
        )


def local_processes() -> int:
    """Return the number of this run's processes on this machine, 1 without a launcher."""
    return max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def is_main_process() -> bool:
    """Whether this process writes the run's files; True without a launcher."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def handle_lost_process(accelerator: Accelerator) -> Iterator[None]:
    """Exit with one line if another process has ended, or if the launcher ends this one because of that."""
    name = f"process {accelerator.process_index} of {accelerator.num_processes}"
    several = accelerator.num_processes > 1
    if several and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: _exit(f"{name} received SIGTERM; another may have failed"))
    try:
        yield
    except RuntimeError as error:
        if not several or not any(word in str(error) for word in CONNECTION_ERRORS):
            raise
        _exit(f"{name} lost another process of this run, which has ended or cannot be reached")
    accelerator.end_training()


def _exit(message: str) -> NoReturn:
    raise SystemExit(f"error: {message}; start the same command with --resume to go on") from None
