"""One head's forward pass in float32: images per second of each engine."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from bench.markdown import table
from bench.plain.loop import PlainHead
from bench.speed.results import ratio, spread
from data.runtime.errors import InputError
from data.runtime.machine import reuse_freed_memory
from data.transforms.pipeline import working_size
from ensemble.backends.engines import PACKAGES, EngineBackend
from heads.config.loader import load_config
from heads.config.task import TaskConfig
from heads.load import TrainedHead, build_head, build_target

BATCH = 64
SECONDS = 0.5  # each rate is measured for at least so long


def measure(path: Path, rounds: int) -> str:
    """Write the section: images per second of each way to compute the head of a YAML, as Markdown.

    Weights and batch statistics are random, since they do not change the time. Freed memory is reused in all of
    them, as in the scripts.
    """
    reuse_freed_memory()
    config = load_config(TaskConfig, path)
    size = working_size(config.pixels.evaluate)
    if size is None:
        raise InputError(f"{path}: pixels.evaluate does not end in one size, expected a letterbox")
    pixels = torch.rand(BATCH, 3, *size, generator=torch.Generator().manual_seed(0))
    heads = build_heads(config)
    speeds: dict[str, list[float]] = {name: [] for name in heads}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, head in heads.items():
                speeds[name].append(BATCH * measure_rate(lambda head=head: head(pixels)))  # type: ignore[misc]
    rows = [[name, spread(each), ratio(each, speeds["plain loop"])] for name, each in speeds.items()]
    network = f"{config.backbone.name} at {size[0]}x{size[1]}, {BATCH} images at once."
    return f"{network}\n\n{table(['', 'images a second', 'times plain'], rows)}"


def build_heads(config: TaskConfig) -> dict[str, nn.Module]:
    """Build the head for each way to compute it."""
    head = build_head(config).eval()
    trained = TrainedHead(head, build_target(config.label), config, {})
    plain = PlainHead(build_head(config)).eval()
    engines = {f"--engine {name}": EngineBackend(name)([trained]) for name in PACKAGES}
    return {"plain loop": plain, "channels last in memory": head, **engines}


def measure_rate(work: Callable[[], object]) -> float:
    """Calls per second, after one that is not counted."""
    work()
    calls, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS or not calls:
        work()
        calls += 1
    return calls / seconds
