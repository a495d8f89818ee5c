"""A head's model in whole numbers of eight bits: post-training quantisation by NNCF, for OpenVINO.

Weights have a scale each channel, activations one each tensor, from what training images make of them;
biases are then corrected for what rounding shifts (Nagel et al. 2019, arXiv:1906.04721).
"""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from data.runtime.processor import CPUINFO, instruction_sets
from ensemble.backends.engines import OpenVinoHead, import_openvino, import_optional, openvino_model
from heads.build import TrainedHead

OPTION = "--precision int8"
# A processor's names for instructions that add up products of bytes in 32 bits: of x86 and, last, of ARM.
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}

Model = tuple[bytes, bytes]  # OpenVINO's two files: the graph and the weights


def has_dot_products(told: Path = CPUINFO) -> bool:
    """Whether the processor adds up products of bytes without overflow; no where the system does not tell.

    Args:
        told: Linux's description of the processor.
    """
    cores = instruction_sets(told)
    return bool(cores) and all(DOT_PRODUCTS & each for each in cores)


def quantise(
    trained: TrainedHead,
    images: Sequence[npt.NDArray[np.float32]],
    overflow_fix: bool,
    in_float: int = 0,
) -> Model:
    """A head's model in int8.

    Args:
        trained: stays as it is.
        images: to calibrate on, as the head is shown them: float [3, H, W] in 0..1.
        overflow_fix: keeps weights to seven bits, for processors that add up products of bytes in 16 bits.
        in_float: leaves so many convolutions, counted from the pixels, as they are: slower, closer to the head.

    Raises:
        InputError: a import_optional is not installed.
    """
    nncf = _nncf()
    fix = nncf.OverflowFix.ENABLE if overflow_fix else nncf.OverflowFix.DISABLE
    model = openvino_model(trained)
    model.reshape([1, *images[0].shape])
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    left = [convolution.get_friendly_name() for convolution in convolutions[:in_float]]
    with _quiet():
        found = nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=left),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
        )
    return _as_bytes(found)


def run_model(model: Model) -> nn.Module:
    """What computes a model of `quantise`: pixels to logits, as a head does."""
    graph, weights = model
    return OpenVinoHead(import_openvino().Core().read_model(graph, weights))


def versions() -> list[str]:
    """Of the packages that decide what `quantise` gives."""
    return [str(each.__version__) for each in (import_optional("import_openvino", OPTION), _nncf())]


def _nncf() -> Any:
    with _quiet():
        return import_optional("nncf", OPTION)


def _as_bytes(model: Any) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.xml"
        import_openvino().save_model(model, graph, compress_to_fp16=False)
        return graph.read_bytes(), graph.with_suffix(".bin").read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without NNCF's progress bars and notes, and those of what it imports."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
