"""Run a script and report when its first batch of images is decoded and, at the end, the peak of its memory.

python -m bench.speed.watch combine.py --data DIR ...
"""

import gc
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.runtime.errors import GC_THRESHOLD

FIRST, PEAK = "first batch", "peak of memory:"  # lines that `bench.speed.running` reads


class WatchedBatches:
    """Batches of a loader; the first one of the process is reported."""

    reported = False

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        batch = next(self.batches)
        if not WatchedBatches.reported:
            WatchedBatches.reported = True
            print(FIRST, flush=True)
        return batch


def main() -> None:
    """Run the script named first, or the package if it is no file, with the arguments that follow."""
    is_script = sys.argv[1].endswith(".py")
    if is_script:
        gc.set_threshold(GC_THRESHOLD)  # as it does itself before it imports PyTorch
    from torch.utils.data import DataLoader

    iterate = DataLoader.__iter__
    setattr(DataLoader, "__iter__", lambda loader: WatchedBatches(iterate(loader)))  # noqa: B010
    del sys.argv[0]
    try:
        if is_script:
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        # Not by getrusage, whose peak starts with that of the process that started this one.
        [peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        print(PEAK, int(peak.split()[1]) // 1024, "MB", flush=True)


if __name__ == "__main__":
    main()
