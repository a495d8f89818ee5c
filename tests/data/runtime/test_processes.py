"""Work is shared among as many processes as this one may use cores, and comes back in order."""

import multiprocessing
import os
import signal

import pytest

from data.runtime.processes import count_cores, parallel_map


def process_id(_: int) -> int:
    return os.getpid()


def handles_sigint(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) != signal.SIG_IGN


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_one_core_is_this_process_alone() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})  # as a container or a scheduler would
    try:
        assert count_cores() == 1
        assert set(parallel_map(process_id, range(6))) == {os.getpid()}
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("requested", "started"), [(None, 3), (2, 2)])
def test_so_many_processes_are_started(requested: int | None, started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.runtime.processes.count_cores", lambda: 3)
    before = set(multiprocessing.active_children())
    found = parallel_map(abs, range(-20, 0), requested)
    assert next(found) == 20
    assert len(set(multiprocessing.active_children()) - before) == started
    assert list(found) == list(range(19, 0, -1))


@pytest.mark.usefixtures("heeds_sigint")
def test_workers_leave_signals_to_their_parent() -> None:
    assert handles_sigint(0)
    assert not any(parallel_map(handles_sigint, range(4), 2))
