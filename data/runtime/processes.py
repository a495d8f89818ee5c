"""Worker processes: how many to start, and work shared among them."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from data.runtime.signals import init_worker

MAX_WORKERS = 8
SHARED_MEMORY = Path("/dev/shm")  # Linux keeps shared memory there; some containers have none
MIN_SHARED_BYTES = 32_000_000  # less does not hold a few batches of images

T = TypeVar("T")
R = TypeVar("R")


def count_cores() -> int:
    """Count the cores that this process may use; a container or scheduler may allow fewer than exist."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_share_memory() -> bool:
    """Whether processes can share memory on this machine."""
    if sys.platform != "linux":
        return True
    folder = SHARED_MEMORY
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= MIN_SHARED_BYTES


def usable_workers(requested: int | None, sharing: int = 1) -> int:
    """Return the number of worker processes to start: 0 where memory cannot be shared.

    Args:
        requested: None for one per core, at most 8.
        sharing: processes of this run that share the machine's cores.
    """
    count = min(max(count_cores() // sharing, 1), MAX_WORKERS) if requested is None else requested
    if count and not can_share_memory():
        if requested is not None:
            warning = f"{SHARED_MEMORY} cannot be used: this process decodes by itself instead of {count} workers"
            print(warning, file=sys.stderr)
        return 0
    return count


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], processes: int | None = None, chunk: int = 1
) -> Iterator[R]:
    """Apply `function` to each item in worker processes; yield the results in order.

    Args:
        processes: None for one per core; 1 for this process alone.
        chunk: items sent to a process together; more pay off where the work on one is small.
    """
    count = count_cores() if processes is None else processes
    if count < 2 or not usable_workers(processes):
        yield from map(function, items)
        return
    with ProcessPoolExecutor(count, initializer=init_worker) as pool:
        yield from pool.map(function, items, chunksize=chunk)
