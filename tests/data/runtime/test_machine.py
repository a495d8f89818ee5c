"""Freed memory is reused, where the C library can: touching it again costs no page fault."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from resource import RUSAGE_SELF, getrusage
import numpy as np
from data.runtime.machine import reuse_freed_memory
def count_faults():
    for repeat in range(25):  # small pieces between large ones are kept apart at first
        before = before if repeat > 20 else getrusage(RUSAGE_SELF).ru_minflt
        np.ones(2**23)  # 64 MiB
    return getrusage(RUSAGE_SELF).ru_minflt - before
before = count_faults()  # 16,384 pages each time, or 32 large ones
assert reuse_freed_memory()
assert 10 * count_faults() < before
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is asked")
def test_memory_is_not_returned_and_requested_again() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[3], check=True)
