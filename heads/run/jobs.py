"""Several heads by one command, each in a process of its own, so that one that fails takes none along."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import IO, TextIO

from data.runtime.errors import InputError
from data.runtime.processes import count_cores
from heads.run.leakage import source_run_name

CODES = {0: "done", 2: "wrong input"}
Device = Mapping[
    str, str
]  # what a job's environment says of the device, or of the count_cores, that are its own
SKIPPED = -1000  # no exit code of a process: it was never started


@dataclass(frozen=True)
class Job:
    """One head (or fold) to train: what to run, and the names of the jobs whose weights it starts from."""

    name: str
    command: Sequence[str]
    after: frozenset[str] = field(default_factory=frozenset)


def plan_jobs(
    command: Sequence[str], tasks: Sequence[str], folds: Sequence[int | None], weights: Mapping[str, str]
) -> list[Job]:
    """A job for each task and fold, in their order, each once.

    Args:
        command: trains all; `--task` and `--fold` at its end win over those that it has.
        weights: each task's `backbone.weights`; run:NAME waits for NAME where that is asked for too.

    >>> jobs = plan_jobs(["train"], ["age", "base"], [None], {"age": "run:base"})
    >>> [(job.name, sorted(job.after)) for job in jobs], jobs[0].command
    ([('age', ['base']), ('base', [])], ['train', '--task', 'age'])
    """
    jobs = []
    for task, fold in dict.fromkeys(product(tasks, folds)):
        before = source_run_name(weights.get(task, ""))
        one = [*command, "--task", task, *([] if fold is None else ["--fold", str(fold)])]
        jobs.append(Job(_name(task, fold), one, frozenset({_name(before, fold)} if before in tasks else ())))
    return jobs


def list_devices(jobs: int) -> list[Device]:
    """Where so many jobs can run side by side: one on each CUDA device, else shares of the processor's count_cores.

    A share has a core at least. Two heads on a core each are trained sooner than one after the other on two,
    where each step waits for the slower thread. OMP_NUM_THREADS, where it is set, is what a share has.
    """
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    found = [str(index) for index in range(count)] if visible is None else visible.split(",")[:count]
    if found:
        return [{"CUDA_VISIBLE_DEVICES": name} for name in found]
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return [{}] * max(1, min(jobs, count_cores() // int(asked)))
    shares = max(1, min(jobs, count_cores()))
    return [{"OMP_NUM_THREADS": str(count_cores() // shares)}] * shares


def run_jobs(jobs: Sequence[Job], list_devices: Sequence[Device]) -> dict[str, int]:
    """Run every job once those that it waits for are done; return the exit code of each, `SKIPPED` for none.

    Side by side in `list_devices`, one job a place; one after another where there is at most one. What waits for a
    job that failed is skipped, the others go on.

    Raises:
        InputError: jobs wait for one another in a circle.
    """
    _check_order(jobs)
    free: list[Device | None] = list(list_devices) if len(list_devices) > 1 else [None]
    codes: dict[str, int] = {}
    waiting = list(jobs)
    started: list[subprocess.Popen[str]] = []
    running: dict[Future[int], tuple[Job, Device | None]] = {}
    with ThreadPoolExecutor(len(free)) as pool, _terminate_on_error(started):
        while waiting or running:
            for job in [job for job in waiting if any(codes.get(name, 0) for name in job.after)]:
                codes[job.name] = SKIPPED
                waiting.remove(job)
            ready = [job for job in waiting if all(codes.get(name) == 0 for name in job.after)]
            for job in ready[: len(free)]:
                place = free.pop(0)
                running[pool.submit(_run, job, place, started)] = job, place
                waiting.remove(job)
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                job, place = running.pop(ended)
                codes[job.name] = ended.result()
                free.append(place)
    return {job.name: codes[job.name] for job in jobs}


@contextmanager
def _terminate_on_error(started: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """Ask the processes to end where something, such as a signal, ends the one that waits for them."""
    try:
        yield
    except BaseException:
        for process in started:
            process.terminate()
        raise


def summary(codes: Mapping[str, int]) -> list[str]:
    """A line for each job: done, failed and how, or not started.

    >>> summary({"age_backbone": 2, "age": SKIPPED, "mask": -9})
    ['age_backbone: failed: wrong input (exit code 2)', 'age: not started', 'mask: failed (ended by signal 9)']
    """
    lines = []
    for name, code in codes.items():
        if code == SKIPPED:
            told = "not started"
        elif code < 0:
            told = f"failed (ended by signal {-code})"
        else:
            told = CODES[code] if code == 0 else f"failed: {CODES.get(code, 'a fault')} (exit code {code})"
        lines.append(f"{name}: {told}")
    return lines


def exit_code(codes: Mapping[str, int]) -> int:
    """0 where all are done, 2 where wrong input is all that failed, else 1.

    >>> exit_code({"age": 0}), exit_code({"age": 2, "mask": 0}), exit_code({"age": 2, "mask": -9})
    (0, 2, 1)
    """
    failed = {code for code in codes.values() if code not in (0, SKIPPED)}
    return 0 if not failed else 2 if failed == {2} else 1


def _name(task: str | None, fold: int | None) -> str:
    return f"{task}" if fold is None else f"{task}/fold-{fold}"


def _run(job: Job, place: Device | None, started: list[subprocess.Popen[str]]) -> int:
    """Run a job to its end; in a place its lines bear its name, since others talk at the same time."""
    environment = os.environ | (place or {})
    pipe = None if place is None else subprocess.PIPE
    with subprocess.Popen(job.command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        started.append(process)
        threads = [
            threading.Thread(target=_prefix, args=(job.name, source, sink))
            for source, sink in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
            if source is not None
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return process.returncode


def _prefix(name: str, source: IO[str], sink: TextIO) -> None:
    for line in source:
        print(f"{name} | {line.rstrip()}", file=sink, flush=True)


def _check_order(jobs: Sequence[Job]) -> None:
    done: set[str] = set()
    left = list(jobs)
    while left:
        ready = [job for job in left if job.after <= done]
        if not ready:
            names = ", ".join(f"{job.name} (after {', '.join(sorted(job.after - done))})" for job in left)
            raise InputError(f"{names}: wait for one another, expected an order; see backbone.weights")
        done |= {job.name for job in ready}
        left = [job for job in left if job not in ready]
