"""What computes a head: PyTorch, ONNX Runtime or OpenVINO; each gives a module that answers as the head does.

Such a module takes a head's place: pixels [N, 3, H, W], uint8 or float in 0..1, to logits [N, outputs]. Every
engine computes with PyTorch's number of threads, which OMP_NUM_THREADS sets; all but PyTorch on the processor.
"""

import copy
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.build import TrainedHead
from heads.export.graph import write_onnx
from heads.model.convolutions import fits, tiles_pay, with_winograd
from heads.model.fusion import folded

Engine = Callable[[TrainedHead], nn.Module]

INPUT, OUTPUT = "pixels", "logits"
TOLERANCE = 1e-4  # of probabilities, against PyTorch's
COMPARED = 8  # photographs
# OpenVINO is given whole chunks alone: in a model for any number of photographs its int8 convolutions answer
# wrongly (2026.4.1, on a processor with VNNI), and more at once are no faster.
CHUNK = 16


class Compared(nn.Module):
    """An engine's module whose first answers are held to those of PyTorch.

    Raises:
        InputError: at the first call, where probabilities differ by more than `TOLERANCE`.
    """

    def __init__(self, module: nn.Module, trained: TrainedHead, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name
        self.trained: TrainedHead | None = trained

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.module(pixels)
        if self.trained is not None and len(pixels):
            its = self.trained.target.probabilities(logits[:COMPARED])
            expected = self.trained.target.probabilities(self.trained.head(pixels[:COMPARED].cpu()))
            far = (its - expected).abs().max().item()
            if not far <= TOLERANCE:
                raise InputError(
                    f"--engine {self.name}: probabilities of {self.trained.config.task} differ from "
                    f"PyTorch's by {far:.2g}, expected at most {TOLERANCE:g}; use --engine torch here"
                )
            self.trained = None
        return logits


class OnnxHead(nn.Module):
    """A head's ONNX graph in ONNX Runtime, on the processor."""

    def __init__(self, graph: bytes) -> None:
        super().__init__()
        runtime = package("onnxruntime", "--engine onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        self.session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run([OUTPUT], {INPUT: as_array(pixels)})[0])


class OpenVinoHead(nn.Module):
    """A head's model in OpenVINO, on the processor, in chunks of one size.

    Args:
        model: an `openvino.Model` that takes pixels; its batch is set to `CHUNK`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.reshape([CHUNK, *(dimension.get_length() for dimension in model.input().partial_shape[1:])])
        how = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        }
        self.compiled = openvino().Core().compile_model(model, "CPU", how)

    def forward(self, pixels: Tensor) -> Tensor:
        chunks = [
            as_array(F.pad(part, (0, 0) * 3 + (0, CHUNK - len(part)))) for part in torch.split(pixels, CHUNK)
        ]
        # A copy: the model writes its next answer into the same memory.
        answers = [torch.from_numpy(np.array(self.compiled(chunk)[0])) for chunk in chunks]
        return torch.cat(answers)[: len(pixels)]


def on_torch(trained: TrainedHead) -> nn.Module:
    """PyTorch: channels last in memory, batch norm folded into the convolutions, by tiles where that pays."""
    head = folded(trained.head)
    if device_of("torch").type == "cpu" and tiles_pay() and any(map(fits, head.modules())):
        head = with_winograd(copy.deepcopy(head), fixed=True)
    return head


def on_onnx(trained: TrainedHead) -> nn.Module:
    """ONNX Runtime, from the head's ONNX graph."""
    return Compared(OnnxHead(onnx_graph(trained)), trained, "onnx")


def on_openvino(trained: TrainedHead) -> nn.Module:
    """OpenVINO in single precision."""
    return Compared(OpenVinoHead(openvino_model(trained)), trained, "openvino")


ENGINES: dict[str, Engine] = {"torch": on_torch, "onnx": on_onnx, "openvino": on_openvino}
PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


def device_of(engine: str) -> torch.device:
    """Where pixels go for an engine: to a GPU if there is one, and the engine is PyTorch."""
    return torch.device("cuda" if engine == "torch" and torch.cuda.is_available() else "cpu")


def version_of(engine: str) -> str:
    """The version of the package that an engine computes with.

    Raises:
        InputError: it is not installed.
    """
    return str(package(PACKAGES[engine], f"--engine {engine}").__version__)


def onnx_graph(trained: TrainedHead) -> bytes:
    """A head as an ONNX file: any number of photographs at the size that the head is shown, to logits."""
    example = torch.zeros(2, 3, *shown_size(trained))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.onnx"
        write_onnx(path, folded(trained.head), [OUTPUT], INPUT, example, ("n",))
        return path.read_bytes()


def openvino_model(trained: TrainedHead) -> Any:
    """A head as an `openvino.Model`, read from its ONNX graph."""
    return openvino().Core().read_model(onnx_graph(trained))


def shown_size(trained: TrainedHead) -> tuple[int, int]:
    """Height and width that a head's evaluation pipeline gives, the same for all photographs."""
    black = np.zeros((256, 256, 3), dtype=np.uint8)
    height, width = Pipeline(trained.config.pixels.evaluate)(black, (0,)).shape[:2]
    return height, width


def as_array(pixels: Tensor) -> npt.NDArray[np.float32]:
    """Pixels as an engine takes them: float in 0..1, one photograph after the other."""
    shown = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    array: npt.NDArray[np.float32] = shown.cpu().contiguous().numpy()
    return array


def openvino() -> ModuleType:
    """The package, if it is installed."""
    return package("openvino", "--engine openvino")


def package(name: str, option: str) -> ModuleType:
    """Import an optional package.

    Raises:
        InputError: it is not installed.
    """
    # OpenVINO and NNCF would tell their makers how they are used; where this package is missing they do not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it will change in its next releases
            return import_module(name)
    except ImportError as error:
        raise InputError(
            f"{option}: {error.name or name} is not installed; pip install -r requirements-fast.txt"
        ) from None
