"""The scripts use nothing that Windows or macOS lacks: no POSIX-only module, workers that are spawned, not forked."""

import json
import os
import subprocess
import sys
from pathlib import Path

from heads.run.checkpoint import load_tensors

ROOT = Path(__file__).parents[2]
# Python runs it at the start of every process. Left are a few names that NumPy and PyTorch use on Linux.
SITE = """
import multiprocessing, os, select, signal, sys
POSIX = "crypt fcntl grp nis pty pwd readline resource spwd syslog termios tty"
sys.modules.update(dict.fromkeys(POSIX.split()))
for module, names in {
    os: "fork forkpty sched_getaffinity sysconf sysconf_names getloadavg killpg getpgid setsid getuid geteuid getgid "
    "mkfifo posix_fallocate nice wait3 wait4 O_DIRECTORY chown fchmod",
    select: "poll epoll",
    signal: "SIGHUP SIGPIPE SIGALRM SIGUSR1 SIGUSR2 setitimer alarm pause sigwait",
}.items():
    for name in names.split():
        vars(module).pop(name, None)
multiprocessing.set_start_method("spawn", force=True)
"""
PROGRAM = """
import importlib, json, pkgutil, sys
from data.runtime.errors import run_script
from data.runtime.processes import parallel_map

assert list(parallel_map(abs, [-1, -2], 2)) == [1, 2]
for name, *sys.argv[1:] in json.loads(sys.argv[1]):
    run_script(importlib.import_module(name).main)
for package in ("data", "heads", "ensemble", "bench"):
    for module in pkgutil.walk_packages([package], package + "."):
        try:
            if not module.name.startswith("ensemble.cluster"):  # Ray has an own build for each system
                importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name in sys.modules:  # hidden; optional packages may be missing
                raise
import fcntl
"""


def test_scripts_run_without_posix_and_forks(faces: Path, configs: Path, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    out, own = tmp_path / "submission.csv", ["--config", configs / "joint.yaml", "--runs", runs]
    train = ["--task", "mask", "--config", configs / "mask.yaml", "--data", faces / "train", "--runs", tmp_path]
    commands = [
        ["train_task", *train, "--set", "training.workers=1"],
        ["combine", *own, "--data", faces / "eval", "--out", out, "--workers", "1"],
        ["evaluate", *own[:2], "--submission", out, "--answers", faces / "eval/answers.csv", "--out", tmp_path],
    ]
    program = [sys.executable, "-c", PROGRAM, json.dumps(commands, default=str)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    error = "ModuleNotFoundError: import of fcntl halted; None in sys.modules"
    assert done.stderr.splitlines()[-1:] == [error], done.stderr  # the program's last line: it was hidden
    here, there = (load_tensors(folder / "mask/best.safetensors")[0] for folder in (tmp_path, runs))
    assert all(here[name].equal(there[name]) for name in there), "trained as with forked workers"
    assert len(out.read_text().splitlines()) == 1 + len(list((faces / "eval/images").iterdir()))
    assert 0 <= json.loads((tmp_path / "metrics.json").read_text())["joint"]["macro_f1"] <= 1
