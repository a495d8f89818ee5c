"""What is freed is kept, where the C library can: the same memory again costs no fault."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import torch
from data.runtime.machine import reuse_freed_memory
if sys.argv[1] == "kept":
    assert reuse_freed_memory()
torch.set_num_threads(1)
def touch():
    torch.ones(64, 2**18)  # 64 MiB
for _ in range(20):  # small pieces between large ones are kept apart at first
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is asked")
def test_memory_is_not_given_back_and_taken_again() -> None:
    assert 10 * faults("kept") < faults("as it comes")  # there 16,384 pages each time, or 32 large ones


def test_elsewhere_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    from data.runtime import machine

    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    assert not machine.reuse_freed_memory()
