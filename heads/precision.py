"""In which precision a head is trained: what its YAML asks for, or what this device computes fastest."""

from pathlib import Path

import torch

from data.processor import CPUINFO, instruction_sets, is_intel


def accelerate_name(asked: str) -> str:
    """Accelerate's name for a precision of the YAML; `auto` is mixed where that pays, else single."""
    if asked != "auto":
        return {"fp32": "no"}.get(asked, asked)
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if bfloat16_pays() else "no"


def bfloat16_pays(told: Path = CPUINFO) -> bool:
    """Whether the processor trains faster in bfloat16; no where the system does not tell what it is.

    Having the instructions is not enough. Training resnet18 at 160x120, AMD's AVX512_BF16 makes 2.1 times as
    many pictures a second as float32 does, Intel's 0.7 times, unless AMX multiplies for it.

    Args:
        told: Linux's description of the processor.
    """
    cores = instruction_sets(told)
    enough = {"amx_bf16"} if is_intel(told) else {"amx_bf16", "avx512_bf16"}
    return bool(cores) and all(enough & each for each in cores)
