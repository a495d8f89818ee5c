"""One head's forward pass in float32, as a share of the machine's fastest matrix multiplication."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.plain import PlainHead
from bench.speed.results import ratio, spread, table
from data.runtime.errors import InputError
from data.runtime.machine import reuse_freed_memory
from data.transforms.pipeline import working_size
from ensemble.backends.engines import BACKENDS
from heads.build import TrainedHead, build_head, build_target
from heads.config.loader import load_config
from heads.config.task import TaskConfig

BATCH = 64
SIDES = (1024, 1536, 2048, 3072)  # of the square matrices; the fastest one counts
SECONDS = 0.5  # each rate is measured for at least so long


def measure(path: Path, rounds: int) -> str:
    """Write the section: images per second and GFLOP/s of each way to compute the head of a YAML, as Markdown.

    Weights and batch statistics are random, since they do not change the time. Freed memory is reused in all of
    them, as in the scripts. Operations are those of direct convolutions.
    """
    reuse_freed_memory()
    config = load_config(TaskConfig, path)
    size = working_size(config.pixels.evaluate)
    if size is None:
        raise InputError(f"{path}: pixels.evaluate does not end in one size, expected a letterbox")
    pixels = torch.rand(BATCH, 3, *size, generator=torch.Generator().manual_seed(0))
    heads, missing = build_heads(config)
    flops = count_flops(build_head(config).eval(), pixels) / BATCH
    speeds: dict[str, list[float]] = {name: [] for name in heads}
    peaks = []
    with torch.inference_mode():
        for _ in range(rounds):
            peaks.append(max(2 * side**3 * measure_rate(make_multiplication(side)) for side in SIDES))
            for name, head in heads.items():
                speeds[name].append(BATCH * measure_rate(lambda head=head: head(pixels)))  # type: ignore[misc]
    rows = [
        [
            name,
            spread(each),
            ratio(each, speeds["plain loop"]),
            spread([speed * flops / 1e9 for speed in each]),
            spread([100 * speed * flops / peak for speed, peak in zip(each, peaks, strict=True)]) + " %",
        ]
        for name, each in speeds.items()
    ]
    rows.append(["matrix multiplication", "", "", spread([peak / 1e9 for peak in peaks]), "100 %"])
    rows += [[name, reason, "", "", ""] for name, reason in missing.items()]
    header = ["", "images a second", "times plain", "GFLOP/s", "of the matrix multiplication"]
    network = f"{config.backbone.name} at {size[0]}x{size[1]}, {BATCH} images at once"
    return f"{network}: {flops / 1e9:.3f} GFLOP each (PyTorch's count).\n\n{table(header, rows)}"


def build_heads(config: TaskConfig) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Build the head for each way to compute it, and list why others are missing."""
    head = build_head(config).eval()
    trained = TrainedHead(head, build_target(config.label), config, {})
    heads: dict[str, nn.Module] = {
        "plain loop": PlainHead(build_head(config)).eval(),
        "channels last in memory": head,
    }
    missing = {}
    for name, make_backend in BACKENDS.items():
        try:
            heads[f"--engine {name}"] = make_backend(trained)
        except InputError as reason:
            missing[f"--engine {name}"] = str(reason)
    return heads, missing


def count_flops(head: nn.Module, pixels: Tensor) -> int:
    """Count floating point operations of a forward pass: two for each multiplication with its addition."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        head(pixels)
    return int(counter.get_total_flops())


def make_multiplication(side: int) -> Callable[[], object]:
    """Make a product of two square float32 matrices."""
    left, right, out = torch.rand(side, side), torch.rand(side, side), torch.empty(side, side)
    return lambda: torch.mm(left, right, out=out)


def measure_rate(work: Callable[[], object]) -> float:
    """Calls per second, after one that is not counted."""
    work()
    calls, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS or not calls:
        work()
        calls += 1
    return calls / seconds
