"""Measure what sizing a big inference needs: photographs a second on a core, bytes read, memory of a worker.

python -m bench.sizing --data DIR [--config configs/joint.yaml] [--photographs 256] [--repeat 3]

DIR is a folder of photographs. Heads are those of the YAMLs with random weights: a forward pass takes as long
with any. One core is used; docs/sizing.md makes machines and hours of the figures.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch.utils.data import default_collate

from data.images.decode import decode_bytes
from data.images.remote import find_images_below, join, read_bytes
from data.runtime.errors import InputError, add_debug_option, run_script, whole_number_from
from data.transforms.pipeline import least_size
from ensemble.config import load_joint
from ensemble.inference.predictor import Predictor, Task, apply_pipelines, build_task
from heads.build import TrainedHead, build_head, build_target
from heads.config.loader import load_config
from heads.config.task import TaskConfig

BATCH = 64


def untrained_tasks(config: Path) -> dict[str, Task]:
    """The joint code's tasks with heads of random weights."""
    tasks = {}
    for name in load_joint(config).tasks:
        its = load_config(TaskConfig, config.parent / f"{name}.yaml")
        tasks[name] = build_task([TrainedHead(build_head(its).eval(), build_target(its.label), its, {})])
    return tasks


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(data: str, config: Path, photographs: int, repeat: int) -> dict[str, float]:
    """Medians over `repeat` passes over the first photographs of a folder, on one core.

    Returns bytes of a photograph, photographs a second read and decoded (`decode`), shown as the heads want
    them (`pixels`), computed through all heads and views (`forward`), all three after one another (`whole`),
    and the peak memory of this process in MB (`memory`).
    """
    torch.set_num_threads(1)
    predictor = Predictor(untrained_tasks(config), torch.device("cpu"))
    names = list(find_images_below(data))[:photographs]
    if not names:
        raise InputError(f"{data}: found no image, expected a folder of photographs")
    encoded = [read_bytes(join(data, name)) for name in names]
    least = least_size(predictor.pipelines)
    pictures = [decode_bytes(each, name, least) for each, name in zip(encoded, names, strict=True)]
    seen = [apply_pipelines(predictor.pipelines, picture, row) for row, picture in enumerate(pictures)]
    batches = [default_collate(seen[start : start + BATCH]) for start in range(0, len(seen), BATCH)]
    predictor(batches[0])  # the first one allocates
    stages: dict[str, Callable[[], object]] = {
        "decode": lambda: [decode_bytes(read_bytes(join(data, name)), name, least) for name in names],
        "pixels": lambda: [
            apply_pipelines(predictor.pipelines, each, row) for row, each in enumerate(pictures)
        ],
        "forward": lambda: [predictor(batch) for batch in batches],
    }
    taken = {name: median(seconds(work) for _ in range(repeat)) for name, work in stages.items()}
    taken["whole"] = sum(taken.values())
    return {
        "bytes": sum(map(len, encoded)) / len(encoded),
        **{name: len(names) / time_taken for name, time_taken in taken.items()},
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description="Measure one core.")
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder of photographs, or its URL")
    parser.add_argument("--config", type=Path, default=Path("configs/joint.yaml"), metavar="FILE")
    parser.add_argument("--photographs", type=whole_number_from(1), default=256)
    parser.add_argument(
        "--repeat", type=whole_number_from(1), default=3, help="the median of so many passes is told"
    )
    add_debug_option(parser)
    given = parser.parse_args()
    figures = measure(given.data, given.config, given.photographs, given.repeat)
    print(f"load_config of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"bytes of a photograph: {figures['bytes']:.0f}")
    for stage in ("decode", "pixels", "forward", "whole"):
        print(f"{stage}: {figures[stage]:.1f} photographs a second on one core")
    print(f"memory of the process: {figures['memory']:.0f} MB")


if __name__ == "__main__":
    run_script(main)
