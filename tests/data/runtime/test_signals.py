"""A signal ends a process where nothing is cut in two, and never twice."""

import os
import signal
from collections.abc import Iterator

import pytest

from data.runtime.signals import StopSignal, defer_signals, handle_signals, init_worker


@pytest.fixture(autouse=True)
def _heeded() -> Iterator[None]:
    """A test run that was started with signals ignored (in the background of a shell) heeds them here."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_once_with_its_exit_code(number: int, code: int) -> None:
    with pytest.raises(StopSignal) as stopped, handle_signals():
        send(number)
    assert stopped.value.exit_code == code
    assert str(stopped.value) == f"stopped by {signal.Signals(number).name}"


def test_what_must_not_be_cut_in_two_is_finished_first() -> None:
    done = []

    @defer_signals()
    def inner() -> None:
        send(signal.SIGTERM)
        done.append("inner")

    @defer_signals()
    def outer() -> None:
        inner()
        done.append("outer")

    with pytest.raises(StopSignal), handle_signals():
        outer()
    assert done == ["inner", "outer"]


def test_saving_after_the_first_signal_is_not_disturbed_by_a_second() -> None:
    saved = []

    def work() -> None:
        try:
            send(signal.SIGTERM)
        except StopSignal:
            send(signal.SIGINT)
            saved.append(True)
            raise

    with pytest.raises(StopSignal), handle_signals():
        work()
    assert saved == [True]


def test_an_error_within_an_unbroken_block_is_told_as_itself() -> None:
    @defer_signals()
    def fail() -> None:
        send(signal.SIGINT)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), handle_signals():
        fail()


def test_handlers_are_as_before_and_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with handle_signals():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        send(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_child_leaves_the_answer_to_its_parent() -> None:
    with handle_signals():
        child = os.fork()
        if not child:
            send(signal.SIGINT)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_worker_dies_of_the_second_signal_and_not_of_the_group_s() -> None:
    child = os.fork()
    if not child:
        init_worker()
        send(signal.SIGINT)
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
