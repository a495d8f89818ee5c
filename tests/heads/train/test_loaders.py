"""A make_loader's workers end with the script that they work for, whatever still holds the make_loader."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision import models

from data.runtime.errors import InputError
from heads.train.loaders import check_batch_size

ROOT = Path(__file__).parents[3]
SCRIPT = """
import gc, sys
import torch
from data.runtime.errors import InputError, run_script
from heads.train.loaders import make_loader

class Kept: pass

def main():
    gc.disable()  # what is in a cycle stays until somebody asks
    kept = Kept()
    kept.itself = kept
    kept.loader = make_loader([(torch.zeros(1), torch.zeros(1))] * 8, range(8), 2, 1, 0)
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


@pytest.mark.parametrize(
    ("size", "rows", "batch", "processes", "lonely"),
    [
        ((32, 32), 225, 224, 1, True),
        ((32, 24), 225, 1, 1, True),
        ((32, 32), 224, 224, 1, False),
        ((33, 32), 225, 224, 1, False),  # two places of the last stage
        ((32, 32), 227, 224, 2, True),  # shares of two and one
        ((32, 32), 228, 224, 2, False),
        ((32, 32), 1, 8, 1, True),
    ],
)
def test_a_batch_that_batch_norm_cannot_learn_from_is_told_before_training(
    size: tuple[int, int], rows: int, batch: int, processes: int, lonely: bool
) -> None:
    backbone = models.resnet18(weights=None).train()
    shares = [min(rows - start, batch) for start in range(0, rows, batch)]
    smallest = min(len(range(place, each, processes)) for each in shares for place in range(processes))
    if lonely:
        with pytest.raises(InputError, match=f"batch_size={batch}: of {rows} images .* expected another"):
            check_batch_size(size, rows, batch, processes)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            backbone(torch.zeros(smallest, 3, *size))
    else:
        check_batch_size(size, rows, batch, processes)
        backbone(torch.zeros(smallest, 3, *size))
