"""In which precision a head is trained: what its YAML asks for, or what this device computes fastest.

Only the steps of training are: a head is validated in single precision, which `combine.py` answers in.
"""

from pathlib import Path

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn

from data.runtime.errors import InputError
from data.runtime.processor import CPUINFO, instruction_sets, is_intel


def resolve_precision(asked: str) -> str:
    """Accelerate's name for a precision of the YAML; `auto` is mixed where that pays, else single.

    Raises:
        InputError: fp16 without a CUDA device, where accelerate would train in single precision and not say so.
    """
    if asked == "fp16" and not torch.cuda.is_available():
        raise InputError(
            "training.precision: found fp16 and no CUDA device, expected one, which alone trains in it; "
            "set fp32, or auto for what this machine trains fastest in"
        )
    if asked != "auto":
        return {"fp32": "no"}.get(asked, asked)
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if bfloat16_pays() else "no"


def without_autocast(head: nn.Module) -> None:
    """Take back what accelerate's prepare gave `head`: that it computes in mixed precision whoever calls it.

    Else it would be validated in another precision than an average of its weights, which is copied before that.

    Args:
        head: changed in place; where accelerate's precision is single there is nothing to take back.
    """
    extract_model_from_parallel(head, keep_fp32_wrapper=False)


def bfloat16_pays(told: Path = CPUINFO) -> bool:
    """Whether the processor trains faster in bfloat16; no where the system does not tell what it is.

    Having the instructions is not enough. Training resnet18 at 160x120, AMD's AVX512_BF16 makes 2.1 times as
    many images a second as float32 does, Intel's 0.7 times, unless AMX multiplies for it.

    Args:
        told: Linux's description of the processor.
    """
    cores = instruction_sets(told)
    enough = {"amx_bf16"} if is_intel(told) else {"amx_bf16", "avx512_bf16"}
    return bool(cores) and all(enough & each for each in cores)
