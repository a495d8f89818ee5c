"""Freed memory is reused, where the C library can: touching it again costs no page fault."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = """
import resource, sys
import numpy as np
from data.runtime.machine import reuse_freed_memory
if sys.argv[1] == "reuse":
    assert reuse_freed_memory()
def touch():
    np.ones(2**23)  # 64 MiB
for _ in range(20):  # small pieces between large ones are kept apart at first
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", COUNT, how]
    return int(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is asked")
def test_memory_is_not_returned_and_requested_again() -> None:
    assert 10 * faults("reuse") < faults("as it comes")  # there 16,384 pages each time, or 32 large ones
