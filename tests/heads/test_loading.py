"""A loader's workers end with the script that they work for, whatever still holds the loader."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import gc, sys
import torch
from data.errors import InputError, run_script
from heads.loading import loader

class Kept: pass

def main():
    gc.disable()  # what is in a cycle stays until somebody asks
    kept = Kept()
    kept.itself = kept
    kept.loader = loader([(torch.zeros(1), torch.zeros(1))] * 8, range(8), 2, 1, 0)
    kept.batches = iter(kept.loader)
    print(len(next(kept.batches)[0]), flush=True)
    if sys.argv[1] == "error":
        raise InputError("told")

run_script(main)
"""


@pytest.mark.parametrize(("how", "code", "told"), [("well", 0, ""), ("error", 2, "error: told\n")])
def test_a_script_does_not_wait_for_workers_that_a_cycle_holds(how: str, code: int, told: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "2\n"
        try:
            script.wait(30)
        finally:
            script.kill()
        assert script.returncode == code
        assert script.stderr is not None
        assert script.stderr.read() == told
