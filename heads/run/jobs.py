"""Train several heads and folds by one command, each in a process of its own."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import IO, TextIO

from data.runtime.errors import InputError
from data.runtime.files import write_text
from data.runtime.processes import count_cores
from heads.run.folder import source_run_name
from heads.run.stamp import Stamp

Device = Mapping[str, str]  # environment variables that give a job a device or a share of the cores
THREADS_FILE = "JOB_THREADS_FILE"  # environment variable: the file that holds a job's number of threads
SKIPPED = -1000  # in place of an exit code: the process was never started
RESULTS = {0: "done", 2: "failed: wrong input (exit code 2)", SKIPPED: "not started"}


@dataclass(frozen=True)
class Job:
    """One head (or fold) to train.

    Attributes:
        command: to run, with its arguments.
        after: names of the jobs that must be done before.
        environment: variables for this job; they override its device's.
        stamp: decides whether the job is done already or continues; None: it runs from the start.
    """

    name: str
    command: Sequence[str]
    after: frozenset[str] = field(default_factory=frozenset)
    environment: Device = field(default_factory=dict)
    stamp: Stamp | None = None


def run_side_by_side(jobs: Sequence[Job]) -> int:
    """Run all jobs, sharing the machine's devices or cores; print how each ended and return the exit code.

    Jobs that train heads share the cores with those that run at the same time: one that runs alone has all of them.
    """
    last = [job for job in jobs if not any(job.name in other.after for other in jobs)]
    devices = list_devices(len(last))  # as many as run side by side where each job waits for one other at most
    with TemporaryDirectory() as folder:
        threads = Path(folder, "threads") if "OMP_NUM_THREADS" in devices[0] else None
        codes = run_jobs(jobs, devices, threads)
    print("\n".join(summary(codes)))
    return exit_code(codes)


def use_thread_share() -> None:
    """Use the threads that this process has now if it is a job of `run_side_by_side`, else change nothing."""
    file = os.environ.get(THREADS_FILE)
    if file is None:
        return
    import torch

    with suppress(OSError):  # not written yet, or its writer has ended
        threads = int(Path(file).read_text(encoding="utf-8"))
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)


def plan_jobs(
    command: Sequence[str],
    tasks: Sequence[str],
    folds: Sequence[int | None],
    weights: Mapping[str, str],
    teachers: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Job]:
    """Make a job for each task and fold.

    Args:
        command: trains all of them; `--task` and `--fold` at its end override those in it.
        weights: `backbone.weights` of each task; run:NAME waits for NAME if NAME is one of `tasks`.
        teachers: `teacher.runs` of tasks that have any; run:NAME waits for all folds of NAME.

    >>> jobs = plan_jobs(["train"], ["age", "base"], [None], {"age": "run:base"})
    >>> [(job.name, sorted(job.after)) for job in jobs], jobs[0].command
    ([('age', ['base']), ('base', [])], ['train', '--task', 'age'])
    """
    jobs = []
    for task, fold in dict.fromkeys(product(tasks, folds)):
        suffix, option = ("", []) if fold is None else (f"/fold-{fold}", ["--fold", str(fold)])
        source = source_run_name(weights.get(task, ""))
        after = {f"{source}{suffix}"} if source in tasks else set()
        for teacher in set(tasks).intersection(filter(None, map(source_run_name, teachers.get(task, ())))):
            after |= {teacher if each is None else f"{teacher}/fold-{each}" for each in folds}
        jobs.append(Job(f"{task}{suffix}", [*command, "--task", task, *option], frozenset(after)))
    return jobs


def list_devices(jobs: int) -> list[Device]:
    """List places to run jobs side by side: one per CUDA device, else shares of the processor's cores.

    A share has at least one core. Two heads on a core each finish sooner than one after the other on two cores,
    where each step waits for the slower thread. If OMP_NUM_THREADS is set, a share has that many cores.
    """
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if count:
        names = map(str, range(count)) if visible is None else visible.split(",")[:count]
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads):
        return [{}] * max(1, min(jobs, count_cores() // int(threads)))
    shares = max(1, min(jobs, count_cores()))
    return [{"OMP_NUM_THREADS": str(count_cores() // shares)}] * shares


def run_jobs(jobs: Sequence[Job], devices: Sequence[Device], threads: Path | None = None) -> dict[str, int]:
    """Run each job after those that it depends on; return exit codes by name, `SKIPPED` for jobs not started.

    Jobs run side by side, one per device, or one after another if there is at most one device. A job is skipped
    if one that it depends on failed. A line is printed when a job starts and when it ends. Raises an `InputError`
    as `sort_jobs` does.

    Args:
        threads: file for each job's equal share of the cores, written when jobs start and end; None: not written.
    """
    by_name, order = {job.name: job for job in jobs}, sort_jobs(jobs)
    if threads is not None:
        devices = [{**device, THREADS_FILE: f"{threads}"} for device in devices]
    free: list[Device | None] = list(devices) if len(devices) > 1 else [None]
    codes: dict[str, int] = {}
    ready: list[str] = []
    processes: list[subprocess.Popen[str]] = []
    stop = threading.Event()
    running: dict[Future[tuple[int, float | None]], tuple[str, Device | None]] = {}
    with ThreadPoolExecutor(len(free)) as pool:
        try:
            while order.is_active():
                ready += order.get_ready()
                for name in [name for name in ready if any(codes[before] for before in by_name[name].after)]:
                    ready.remove(name)
                    codes[name] = SKIPPED
                    order.done(name)
                while ready and free:
                    name, device = ready.pop(0), free.pop(0)
                    running[pool.submit(_run, by_name[name], device, processes, stop)] = name, device
                if threads is not None and running:
                    write_text(threads, str(max(1, count_cores() // len(running))))
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    name, device = running.pop(future)
                    codes[name], seconds = future.result()
                    end = (
                        "found done"
                        if seconds is None
                        else f"{describe_end(codes[name])} after {seconds / 60:.1f} minutes"
                    )
                    print(f"{name}: {end} ({len(codes)} of {len(jobs)})", flush=True)
                    order.done(name)
                    free.append(device)
        except BaseException:  # interrupted while it waits
            stop.set()
            for process in processes:
                process.terminate()
            raise
    return {job.name: codes[job.name] for job in jobs}


def sort_jobs(jobs: Sequence[Job]) -> TopologicalSorter[str]:
    """Prepare a sorter of the jobs' names; raise an `InputError` if jobs depend on one another in a circle."""
    order = TopologicalSorter({job.name: sorted(job.after) for job in jobs})
    try:
        order.prepare()
    except CycleError as error:
        circle = " after ".join(error.args[1])
        raise InputError(f"{circle}: found a circle of runs, expected an order; see backbone.weights") from None
    return order


def summary(codes: Mapping[str, int]) -> list[str]:
    """Describe how each job ended, a line each.

    >>> summary({"age_backbone": 2, "age": SKIPPED, "mask": -9})
    ['age_backbone: failed: wrong input (exit code 2)', 'age: not started', 'mask: failed (ended by signal 9)']
    """
    return [f"{name}: {describe_end(code)}" for name, code in codes.items()]


def describe_end(code: int) -> str:
    """Describe how a job ended, from its exit code.

    >>> describe_end(0), describe_end(1)
    ('done', 'failed: a fault (exit code 1)')
    """
    failure = f"failed (ended by signal {-code})" if code < 0 else f"failed: a fault (exit code {code})"
    return RESULTS.get(code, failure)


def exit_code(codes: Mapping[str, int]) -> int:
    """Return 0 if all jobs are done, 2 if wrong input is the only failure, else 1.

    >>> exit_code({"age": 0}), exit_code({"age": 2, "mask": 0}), exit_code({"age": 2, "mask": -9})
    (0, 2, 1)
    """
    failed = {code for code in codes.values() if code not in (0, SKIPPED)}
    return 0 if not failed else 2 if failed == {2} else 1


def _run(
    job: Job, device: Device | None, processes: list[subprocess.Popen[str]], stop: threading.Event
) -> tuple[int, float | None]:
    """Run a job to its end; return its exit code and the seconds that it took, None if it was done before.

    On a device its lines are prefixed, since others print at the same time. Once `stop` is set it does not start.
    """
    start = time.monotonic()
    arguments = () if job.stamp is None else job.stamp.start(job.name)
    if arguments is None:
        return 0, None
    if stop.is_set():  # reading what decides the result may take seconds
        return SKIPPED, None
    print(f"{job.name}: started", flush=True)
    command = [*job.command, *arguments]
    pipe = None if device is None else subprocess.PIPE
    environment = {**os.environ, **(device or {}), **job.environment}
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, errors="replace") as process:
        processes.append(process)
        if stop.is_set():  # after the others were told
            process.terminate()
        streams = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        threads = [threading.Thread(target=_print_prefixed, args=(job.name, *pair)) for pair in streams if pair[0]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if job.stamp is not None and process.returncode == 0:
        job.stamp.finish()
    return process.returncode, time.monotonic() - start


def _print_prefixed(name: str, source: IO[str], sink: TextIO) -> None:
    for line in source:
        print(f"{name} | {line.rstrip()}", file=sink, flush=True)
