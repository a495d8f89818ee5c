"""One head's forward pass in float32, as a share of the fastest matrix multiplication of the same minutes."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.plain import PlainHead
from bench.speed.results import ratio, spread, table
from data.runtime.errors import InputError
from data.runtime.memory import reuse_freed_memory
from data.transforms.pipeline import working_size
from ensemble.backends.engines import BACKENDS
from heads.build import TrainedHead, build_head, build_target
from heads.config.loader import load_config
from heads.config.task import TaskConfig

BATCH = 64
SIDES = (1024, 1536, 2048, 3072)  # of the square matrices; the best one counts
LEAST = 0.5  # seconds that one figure is taken over

Work = Callable[[], object]


def measure(config: Path, rounds: int) -> str:
    """The section: images a second and GFLOP/s of each way to compute the head of a YAML, as Markdown.

    Weights are random, and batch statistics too: a forward pass takes as long with any. Freed memory is kept
    for all of them, the plain loop too, as the scripts keep it. Operations are those of direct convolutions, of
    which the default engine needs fewer: so its share may be above 100 %.
    """
    reuse_freed_memory()
    its = load_config(TaskConfig, config)
    size = working_size(its.pixels.evaluate)
    if size is None:
        raise InputError(f"{config}: pixels.evaluate does not letterbox to one size, expected that")
    pixels = torch.rand(BATCH, 3, *size, generator=torch.Generator().manual_seed(0))
    heads, missing = ways(its)
    flops = flops_of(build_head(its).eval(), pixels) / BATCH
    speeds: dict[str, list[float]] = {name: [] for name in heads}
    peaks = []
    with torch.inference_mode():
        for _ in range(rounds):
            peaks.append(max(2 * side**3 * rate(multiplication(side)) for side in SIDES))
            for name, head in heads.items():
                speeds[name].append(BATCH * rate(lambda head=head: head(pixels)))  # type: ignore[misc]
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
    rows += [[name, told, "", "", ""] for name, told in missing.items()]
    header = ["", "images a second", "times plain", "GFLOP/s", "of the matrix multiplication"]
    told = f"{its.backbone.name} at {size[0]}x{size[1]}, {BATCH} images at once: {flops / 1e9:.3f} GFLOP each"
    return f"{told} (PyTorch's count).\n\n{table(header, rows)}"


def ways(config: TaskConfig) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Ways to compute a head, and why others are missing."""
    head = build_head(config).eval()
    trained = TrainedHead(head, build_target(config.label), config, {})
    found: dict[str, nn.Module] = {
        "plain loop": PlainHead(build_head(config)).eval(),
        "channels last in memory": head,
    }
    missing = {}
    for name, engine in BACKENDS.items():
        try:
            found[f"--engine {name}"] = engine(trained)
        except InputError as absent:
            missing[f"--engine {name}"] = str(absent)
    return found, missing


def flops_of(head: nn.Module, pixels: Tensor) -> int:
    """Floating point operations of a forward pass: two for each multiplication with its addition."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        head(pixels)
    return int(counter.get_total_flops())


def multiplication(side: int) -> Work:
    """A product of two square float32 matrices."""
    left, right = torch.rand(side, side), torch.rand(side, side)
    out = torch.empty(side, side)
    return lambda: torch.mm(left, right, out=out)


def rate(work: Work) -> float:
    """Calls a second, after one that is not counted."""
    work()
    calls, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < LEAST or not calls:
        work()
        calls += 1
    return calls / took
