"""Work is shared among as many processes as this one may use count_cores, and comes back in order."""

import multiprocessing
import os
import signal
from collections.abc import Iterator

import pytest

from data.runtime.processes import count_cores, parallel_map


@pytest.fixture
def one_core() -> Iterator[None]:
    """This process may use one core of the machine's, as a container or a scheduler would have it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def who(_: int) -> int:
    return os.getpid()


def answers_to_sigint(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) != signal.SIG_IGN


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="count_cores cannot be chosen here")
@pytest.mark.usefixtures("one_core")
def test_one_core_is_this_process_alone() -> None:
    assert count_cores() == 1
    assert set(parallel_map(who, range(6))) == {os.getpid()}


@pytest.mark.parametrize(("asked", "started"), [(None, 5), (2, 2), (3, 3)])
def test_so_many_processes_are_started(
    asked: int | None, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.runtime.processes.count_cores", lambda: 5)
    monkeypatch.setattr("os.cpu_count", lambda: 7)  # what Python's own pool would go by
    before = set(multiprocessing.active_children())
    found = parallel_map(abs, range(-20, 0), asked)
    assert next(found) == 20
    assert len(set(multiprocessing.active_children()) - before) == started
    assert list(found) == list(range(19, 0, -1))


@pytest.mark.usefixtures("heeds_sigint")
def test_processes_leave_signals_to_the_one_that_shares_out() -> None:
    assert answers_to_sigint(0)
    assert not any(parallel_map(answers_to_sigint, range(4), 2))
