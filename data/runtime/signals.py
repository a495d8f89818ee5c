"""Stop on SIGINT and SIGTERM where the work can be resumed.

Python's KeyboardInterrupt can come between an optimiser step and the count of that step, and SIGTERM ends a
process silently. Here both raise `StopSignal`: at once, or at the end of a block that must not be interrupted.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class StopSignal(BaseException):
    """A signal asked the process to end; no Exception, so that code that tolerates errors does not swallow it.

    Attributes:
        number: of the signal.
        saved: what the run can be resumed from, for the message; set by the code that saves it.
        exit_code: as shells report the signal: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.exit_code, self.saved = number, 128 + number, ""

    def __str__(self) -> str:
        message = f"stopped by {signal.Signals(self.number).name}"
        return f"{message}; {self.saved}" if self.saved else message


@dataclass
class _State:
    received: int | None = None  # the first signal
    deferring: int = 0  # nested `defer_signals` blocks


_state = _State()


@contextmanager
def handle_signals() -> Iterator[None]:
    """Raise `StopSignal` in this block at the first SIGINT or SIGTERM; ignore later ones, so that it can save.

    Signals that the process was started to ignore (as by `nohup`) stay ignored. Child processes, such as data
    loader workers, do not react. Only the main thread may enter.
    """
    owner = os.getpid()

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner or _state.received is not None:
            return
        _state.received = number
        if not _state.deferring:
            raise StopSignal(number)

    _state.received, _state.deferring = None, 0
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.received = None


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer `StopSignal` to the end of this block, unless the block ends by another error."""
    _state.deferring += 1
    try:
        yield
    finally:
        _state.deferring -= 1
    if _state.received is not None and not _state.deferring:
        raise StopSignal(_state.received)


def init_worker(_: int = 0) -> None:
    """Initialise a worker process: signals to the process group are handled by its parent alone.

    The first SIGTERM is taken for the group's; a second one, as from the parent's cleanup, ends the worker. On
    Linux it also ends when its parent is killed, for which it would otherwise wait forever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, signal.SIG_DFL))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
