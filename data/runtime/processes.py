"""How many processes may work at once, and work shared among them."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from data.runtime.signals import init_worker

MOST = 8
SHARED_MEMORY = Path("/dev/shm")  # Linux keeps there what processes share; some containers have none
SHARED_BYTES = 32_000_000  # less than this does not hold a few batches of images

T = TypeVar("T")
R = TypeVar("R")


def count_cores() -> int:
    """Cores that this process may use: fewer than the machine has, where a container or a scheduler says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_share_memory() -> bool:
    """Whether processes can share memory here."""
    if sys.platform != "linux":
        return True
    if not os.access(SHARED_MEMORY, os.W_OK):
        return False
    free = os.statvfs(SHARED_MEMORY)
    return free.f_bavail * free.f_frsize >= SHARED_BYTES


def usable_workers(asked: int | None, sharing: int = 1) -> int:
    """The number of worker processes: as asked (None: one a core, at most 8), none where nothing is shared.

    `sharing` is how many processes of a run share this machine's count_cores.
    """
    count = min(max(count_cores() // sharing, 1), MOST) if asked is None else asked
    if count and not can_share_memory():
        if asked is not None:
            told = f"{SHARED_MEMORY} cannot be used: this process decodes by itself instead of {count} workers"
            print(told, file=sys.stderr)
        return 0
    return count


def parallel_map(
    work: Callable[[T], R], items: Iterable[T], processes: int | None = None, at_once: int = 1
) -> Iterator[R]:
    """`work` of each item, in order, by so many processes (None: one a core); 1 is this process alone.

    A process takes `at_once` items at a time, which pays where the work on one is small.
    """
    count = count_cores() if processes is None else processes
    if count < 2 or not usable_workers(processes):
        yield from map(work, items)
        return
    with ProcessPoolExecutor(count, initializer=init_worker) as pool:
        yield from pool.map(work, items, chunksize=at_once)
