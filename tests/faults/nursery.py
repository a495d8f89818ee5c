"""Runs scripts in forked children that can be killed at a chosen moment; imports are paid for once.

Reads one JSON request a line and answers with one: {"script", "argv"} runs to the end; with "phase", "entry"
and "delay" (seconds) the child gets SIGKILL so long after it has entered that phase for the entry-th time. The
answer has the exit code (-9 for a kill), standard error, and per phase the entries and the longest seconds.
"""

import importlib
import json
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

# What stands for each phase: a module and the function in it that the script calls.
PHASES = {
    "train_task": {
        "loading": ("data.dataset", "Images.__getitem__"),
        "step": ("heads.train.loop", "_step"),
        "validation": ("heads.train.loop", "predict"),
        "writing": ("heads.train.recorder", "Keeper.after_epoch"),
        "closing": ("heads.train.recorder", "Keeper.close"),
    },
    "combine": {
        "loading": ("ensemble.inference.predictor", "Decoded.__getitem__"),
        "predicting": ("ensemble.inference.predictor", "Task.view_logits"),
        "part": ("ensemble.inference.parts", "Parts.write"),
        "merging": ("ensemble.inference.run", "write_answers"),
    },
}
SLOT = struct.Struct("<id")  # entries of a phase, longest seconds in it


class Board:
    """Entries and durations of phases, in memory that outlives the child."""

    def __init__(self, phases: list[str]) -> None:
        self.phases, self.memory = phases, mmap.mmap(-1, 4096)

    def read(self, phase: str) -> tuple[int, float]:
        entries, seconds = SLOT.unpack_from(self.memory, self.phases.index(phase) * SLOT.size)
        return int(entries), float(seconds)

    def add(self, phase: str, entries: int, seconds: float) -> None:
        before, longest = self.read(phase)
        place = self.phases.index(phase) * SLOT.size
        SLOT.pack_into(self.memory, place, before + entries, max(longest, seconds))


def watched(inner: Callable[..., Any], phase: str, board: Board) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        board.add(phase, 1, 0.0)
        started = time.perf_counter()
        try:
            return inner(*given, **named)
        finally:
            board.add(phase, 0, time.perf_counter() - started)

    return call


def run_child(request: dict[str, Any], board: Board, log: str) -> None:
    from data.runtime.errors import run_script

    os.setpgid(0, 0)
    script = importlib.import_module(request["script"])
    for phase, (module, name) in PHASES[request["script"]].items():
        owner: Any = importlib.import_module(module)
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, watched(getattr(owner, last), phase, board))
    importlib.import_module("ensemble.inference.parts").ROWS = request.get("part_rows", 1024)
    sys.argv = [f"{request['script']}.py", *request["argv"]]
    code = 0
    with Path(log).open("w") as file, redirect_stderr(file), redirect_stdout(file):
        try:
            run_script(script.main)
        except SystemExit as end:
            code = int(end.code or 0)
    os._exit(code)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    board = Board(list(PHASES[request["script"]]))
    child = os.fork()
    if not child:
        run_child(request, board, request["log"])
    if "phase" in request:
        while board.read(request["phase"])[0] < request["entry"]:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.0005)
        time.sleep(request["delay"])
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    phases = {phase: board.read(phase) for phase in board.phases}
    return {"code": code, "err": Path(request["log"]).read_text(), "phases": phases}


def main() -> None:
    # What the scripts import late. Nothing is computed here: PyTorch does not differentiate in a fork of a
    # process that did.
    for module in (
        *(
            "torch",
            "accelerate",
            "albumentations",
            "train_task",
            "combine",
            "data.dataset",
            "data.annotations.folds",
        ),
        *(
            "data.annotations.table",
            "heads.build",
            "heads.train.recorder",
            "heads.train.loop",
            "ensemble.inference.predictor",
            "ensemble.inference.views",
        ),
        *(
            "ensemble.metrics.decide",
            "ensemble.files.predictions",
            "ensemble.files.submission",
            "ensemble.inference.run",
        ),
    ):
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
