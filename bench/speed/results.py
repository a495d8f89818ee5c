"""The page bench/results.md: one section per measurement, all measured on the machine in its header."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import torch

from data.runtime.machine import instruction_sets
from heads.run.folder import describe_machine

TITLE = """# Speed

Written by `make bench`. Every figure is a median over rounds, the smallest and largest in brackets; a round
runs what is compared one after the other. Ratios are medians of the rounds' own ratios.
"""
PACKAGES = (
    *("torch", "torchvision", "numpy", "pillow", "albumentations", "opencv-python-headless"),
    *("openvino", "nncf", "onnxruntime"),
)
# Instruction sets that multiply matrices in float32, bfloat16 and int8.
INSTRUCTIONS = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm"),
)
HEADING = "\n## "


def machine_header() -> str:
    """List processor, cores, instruction sets, memory, threads and versions for the header."""
    available: set[str] = next(iter(instruction_sets()), set())
    names = ", ".join(name for name in INSTRUCTIONS if name in available) or "unknown"
    facts = {**describe_machine(), "instruction sets": names}
    facts |= {"threads of PyTorch": str(torch.get_num_threads()), "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def merge_page(before: str, header: str, sections: Mapping[str, str]) -> str:
    """Replace `sections` (text by heading) in the page `before`; all else stays if the header is the same."""
    top, *parts = before.split(HEADING)
    if header not in top:
        top, parts = f"{TITLE}\n{header}\n", []
    old = {name: text for name, _, text in (part.partition("\n") for part in parts)}
    texts = {name: text.strip() + "\n" for name, text in {**old, **sections}.items()}
    return top + "".join(f"{HEADING}{name}\n\n{text}" for name, text in texts.items())


def spread(values: Sequence[float]) -> str:
    """Format the median with the smallest and the largest value.

    >>> spread([3.0, 1.0, 2.25])
    '2.25 (1 to 3)'
    """
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def ratio(values: Sequence[float], plain: Sequence[float], smaller_is_better: bool = False) -> str:
    """Format how many times the plain loop, as the median over rounds.

    >>> ratio([2.0, 3.0], [1.0, 1.0]), ratio([2.0, 2.0], [1.0, 8.0], smaller_is_better=True)
    ('2.50x', '2.25x')
    """
    pairs = zip(values, plain, strict=True)
    return f"{median(p / v if smaller_is_better else v / p for v, p in pairs):.2f}x"
