"""bench/results.md: one section a measurement, under the describe_machine that all of them were measured on."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import torch

from data.runtime.processor import instruction_sets
from heads.run.folder import describe_machine

TITLE = """# Speed

Written by `make bench`. Every figure is a median over rounds, the smallest and largest in brackets; a round
runs what is compared one after the other. Ratios are medians of the rounds' own ratios.
"""
PACKAGES = (
    *("torch", "torchvision", "numpy", "pillow", "albumentations", "opencv-python-headless"),
    *("openvino", "nncf", "onnxruntime"),
)
# Instruction sets that matter here: what multiplies matrices in float32, bfloat16 and int8.
INSTRUCTIONS = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm"),
)
MISSING = "not installed"
HEADING = "\n## "


def this_machine() -> str:
    """The header: processor, its cores and instruction sets, memory, threads and versions, as a list."""
    told = {**describe_machine(), "instruction sets": ", ".join(_instructions()) or "unknown"}
    told |= {"threads of PyTorch": str(torch.get_num_threads()), "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            told[package] = version(package)
        except PackageNotFoundError:
            told[package] = MISSING
    return "\n".join(f"- {name}: {value}" for name, value in told.items())


def _instructions() -> list[str]:
    first = next(iter(instruction_sets()), set())
    return [name for name in INSTRUCTIONS if name in first]


def merged(before: str, header: str, sections: Mapping[str, str]) -> str:
    """The page `before` with `sections` (text by heading) in place of its own; others stay if the describe_machine does.

    >>> page = merged("", "- processor: a", {"combine": "1x", "help": "0.2 s"})
    >>> merged(page, "- processor: a", {"combine": "2x"}).split(HEADING)[1:]
    ['combine\\n\\n2x\\n', 'help\\n\\n0.2 s\\n']
    >>> "0.2 s" in merged(page, "- processor: b", {"combine": "2x"})
    False
    """
    top, *parts = before.split(HEADING)
    kept = dict(part.split("\n\n", 1) for part in parts) if header in top else {}
    texts = {name: text.strip() + "\n" for name, text in {**kept, **sections}.items()}
    return f"{TITLE}\n{header}\n" + "".join(f"{HEADING}{name}\n\n{text}" for name, text in texts.items())


def spread(values: Sequence[float]) -> str:
    """Median with the smallest and the largest.

    >>> spread([3.0, 1.0, 2.25])
    '2.25 (1 to 3)'
    """
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def ratio(values: Sequence[float], plain: Sequence[float], smaller_is_better: bool = False) -> str:
    """How many times the plain loop, round by round.

    >>> ratio([2.0, 3.0], [1.0, 1.0]), ratio([2.0, 2.0], [1.0, 8.0], smaller_is_better=True)
    ('2.50x', '2.25x')
    """
    pairs = zip(values, plain, strict=True)
    return f"{median(p / v if smaller_is_better else v / p for v, p in pairs):.2f}x"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
