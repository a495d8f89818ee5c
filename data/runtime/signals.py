"""Stopping on a signal at a place that can be gone on from: SIGINT and SIGTERM become one exception.

Python's own KeyboardInterrupt comes anywhere, also between the weights' change and the count of the step, and
SIGTERM ends a process without a word. Here both raise `Stopped`: at once where nothing would be lost, and where
work is under way that must not be cut in two, as soon as that has ended.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Stopped(BaseException):
    """A signal asked for the end. Not an Exception: what tolerates failures must not swallow it.

    Attributes:
        number: of the signal.
        kept: what there is to go on from, for the user; whoever saved it says so here.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.kept = ""

    @property
    def exit_code(self) -> int:
        """As shells report a process that a signal ended: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number

    def __str__(self) -> str:
        told = f"stopped by {signal.Signals(self.number).name}"
        return f"{told}; {self.kept}" if self.kept else told


@dataclass
class _State:
    """What the handler and the blocks share: handlers take no arguments of ours."""

    asked: int | None = None
    depth: int = 0


_state = _State()


@contextmanager
def handle_signals() -> Iterator[None]:
    """In this block the first SIGINT or SIGTERM raises `Stopped`; later ones are ignored, to let it save.

    A signal that the process was started to ignore (as `nohup` does) stays ignored, and child processes, such
    as a loader's workers, leave the answer to this one. Only the main thread may enter.
    """
    owner = os.getpid()

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner or _state.asked is not None:
            return
        _state.asked = number
        if not _state.depth:
            raise Stopped(number)

    _state.asked, _state.depth = None, 0
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number in SIGNALS if before[number] != signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, before[number])
        _state.asked = None


@contextmanager
def defer_signals() -> Iterator[None]:
    """In this block a signal waits; `Stopped` comes when it ends, unless it ends by another error."""
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    if _state.asked is not None and not _state.depth:
        raise Stopped(_state.asked)


def init_worker(_: int = 0) -> None:
    """Begin a process that works for another: a signal to the whole group is its parent's to answer.

    A loader whose workers die of it would report that instead. The first SIGTERM is taken for the group's; a
    second one is meant for the worker itself, as when its parent clears up, and ends it.
    """

    def handle(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, handle)
    _die_with_parent()


def _die_with_parent() -> None:
    """On Linux, end with the process that made this one: workers of a killed parent would wait for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
