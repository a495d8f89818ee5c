"""A signal ends a process where nothing is interrupted, and never twice."""

import os
import signal
from collections.abc import Iterator

import pytest

from data.runtime.signals import StopSignal, defer_signals, handle_signals, init_worker


@pytest.fixture(autouse=True)
def _default_handlers() -> Iterator[None]:
    """Handle signals also in tests that a shell started in the background, where they are ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_once_with_its_exit_code(number: int, code: int) -> None:
    with pytest.raises(StopSignal) as stop, handle_signals():
        send(number)
    assert stop.value.exit_code == code
    assert str(stop.value) == f"stopped by {signal.Signals(number).name}"


def test_deferring_blocks_are_finished_first() -> None:
    done = []
    with pytest.raises(StopSignal), handle_signals(), defer_signals():  # noqa: PT012
        with defer_signals():
            send(signal.SIGTERM)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_saving_after_the_first_signal_is_not_interrupted_by_a_second() -> None:
    saved = []
    with pytest.raises(StopSignal), handle_signals():  # noqa: PT012
        try:
            send(signal.SIGTERM)
        except StopSignal:
            send(signal.SIGINT)
            saved.append(True)
            raise
    assert saved == [True]


def test_an_error_within_a_deferring_block_is_raised_itself() -> None:
    with pytest.raises(ZeroDivisionError), handle_signals(), defer_signals():  # noqa: PT012
        send(signal.SIGINT)
        raise ZeroDivisionError


def test_handlers_are_restored_and_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with handle_signals():
        send(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def exit_code_of_child(*numbers: int, worker: bool) -> int:
    """Fork, send signals to the child, and return how it ended; 7 if it ended by itself."""
    child = os.fork()
    if not child:
        if worker:
            init_worker()
        for number in numbers:
            send(number)
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_does_not_react_and_a_worker_ends_at_the_second_sigterm() -> None:
    with handle_signals():
        assert exit_code_of_child(signal.SIGINT, signal.SIGTERM, worker=False) == 7
    assert exit_code_of_child(signal.SIGINT, signal.SIGTERM, worker=True) == 7
    assert exit_code_of_child(signal.SIGTERM, signal.SIGTERM, worker=True) == -signal.SIGTERM
