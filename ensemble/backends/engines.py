"""Backends that compute a head: PyTorch, ONNX Runtime or OpenVINO.

A backend turns a head into a module from pixels [N, 3, H, W], uint8 or float in 0..1, to logits [N, outputs]. All use
PyTorch's number of threads, which OMP_NUM_THREADS sets; only PyTorch uses a GPU.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.images.decode import decoder_versions
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.export.graph import write_onnx
from heads.load import TrainedHead
from heads.model.fusion import fuse_batch_norm

Backend = Callable[[TrainedHead], nn.Module]

INPUT, OUTPUT = "pixels", "logits"
TOLERANCE = 1e-4  # of probabilities, against PyTorch's
COMPARED = 8  # images
# OpenVINO gets whole chunks only: in a model for any number of images its int8 convolutions are wrong (2026.4.1, on
# a processor with VNNI), and larger batches are no faster.
CHUNK = 16


class CheckedBackend(nn.Module):
    """A backend's module; InputError if the probabilities of its first batch differ from PyTorch's by `TOLERANCE`."""

    def __init__(self, module: nn.Module, trained: TrainedHead, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name
        self.trained: TrainedHead | None = trained

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.module(pixels)
        trained = self.trained  # another thread may finish the comparison meanwhile
        if trained is not None and len(pixels):
            found = trained.target.probabilities(logits[:COMPARED])
            expected = trained.target.probabilities(trained.head(pixels[:COMPARED].cpu()))
            difference = (found - expected).abs().max().item()
            if not difference <= TOLERANCE:
                raise InputError(
                    f"--engine {self.name}: probabilities of {trained.config.task} differ from PyTorch's by "
                    f"{difference:.2g}, expected at most {TOLERANCE:g}; use --engine torch here"
                )
            self.trained = None
        return logits


class OnnxHead(nn.Module):
    """A head's ONNX graph in ONNX Runtime, on the CPU."""

    def __init__(self, graph: bytes) -> None:
        super().__init__()
        runtime = import_optional("onnxruntime", "--engine onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        self.session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run([OUTPUT], {INPUT: to_numpy(pixels)})[0])


class OpenVinoHead(nn.Module):
    """A head's `openvino.Model`, on the CPU, in chunks of one size."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.reshape([CHUNK, *(dimension.get_length() for dimension in model.input().partial_shape[1:])])
        properties = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        }
        self.compiled = import_optional("openvino", "--engine openvino").Core().compile_model(model, "CPU", properties)

    def forward(self, pixels: Tensor) -> Tensor:
        chunks = [to_numpy(F.pad(part, (0, 0) * 3 + (0, CHUNK - len(part)))) for part in torch.split(pixels, CHUNK)]
        request = self.compiled.create_infer_request()  # its own, since threads may share the model
        # A copy: the request writes its next output into the same memory.
        logits = [torch.from_numpy(np.array(request.infer([chunk])[0])) for chunk in chunks]
        return torch.cat(logits)[: len(pixels)]


def torch_backend(trained: TrainedHead) -> nn.Module:
    """PyTorch: channels-last memory, batch norm fused into the convolutions."""
    return fuse_batch_norm(trained.head)


def onnx_backend(trained: TrainedHead) -> nn.Module:
    """ONNX Runtime, from the head's ONNX graph."""
    return CheckedBackend(OnnxHead(onnx_graph(trained)), trained, "onnx")


def openvino_backend(trained: TrainedHead) -> nn.Module:
    """OpenVINO in single precision."""
    return CheckedBackend(OpenVinoHead(openvino_model(trained)), trained, "openvino")


BACKENDS: dict[str, Backend] = {"torch": torch_backend, "onnx": onnx_backend, "openvino": openvino_backend}
PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


def select_device(backend: Backend) -> torch.device:
    """Select the GPU for PyTorch if there is one, else the CPU."""
    return torch.device("cuda" if backend is torch_backend and torch.cuda.is_available() else "cpu")


def describe_device(device: torch.device) -> str:
    """Describe what else decides the last bits of a backend's results: device, version of PyTorch and threads."""
    return f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def software_versions(engine: str) -> dict[str, str]:
    """Versions of what decides the last bits of pixels and predictions with an engine, by name."""
    decoders = ", ".join(map(str, decoder_versions()))
    return {"engine": backend_version(engine), "torch": torch.__version__, "cv2": cv2.__version__, "decoders": decoders}


def backend_version(engine: str) -> str:
    """Name an engine, a key of `BACKENDS`, with the version of its package; InputError if that is not installed."""
    return f"{engine} {import_optional(PACKAGES[engine], f'--engine {engine}').__version__}"


def onnx_graph(trained: TrainedHead) -> bytes:
    """Export a head to ONNX: any number of images at the size of its evaluation pipeline, to logits."""
    example = torch.zeros(2, 3, *input_size(trained))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.onnx"
        write_onnx(path, fuse_batch_norm(trained.head), [OUTPUT], INPUT, example, ("n",))
        return path.read_bytes()


def openvino_model(trained: TrainedHead) -> Any:
    """Convert a head to an `openvino.Model`, from its ONNX graph."""
    return import_optional("openvino", "--engine openvino").Core().read_model(onnx_graph(trained))


def input_size(trained: TrainedHead) -> tuple[int, int]:
    """Height and width of the images from a head's evaluation pipeline."""
    black = np.zeros((256, 256, 3), dtype=np.uint8)
    height, width = Pipeline(trained.config.pixels.evaluate)(black, (0,)).shape[:2]
    return height, width


def to_numpy(pixels: Tensor) -> npt.NDArray[np.float32]:
    """Convert pixels to contiguous float32 in 0..1."""
    scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    return scaled.cpu().contiguous().numpy()


def import_optional(name: str, option: str) -> ModuleType:
    """Import a package that only `option` needs; InputError if it is not installed."""
    # OpenVINO and NNCF send usage statistics through this package, and none where it cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings(action="ignore"):  # about changes in the package's next releases
            return import_module(name)
    except ImportError as error:
        raise InputError(
            f"{option}: {error.name or name} is not installed; pip install -r requirements-fast.txt"
        ) from None
