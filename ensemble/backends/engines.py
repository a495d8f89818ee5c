"""Backends that compute heads: PyTorch, ONNX Runtime or OpenVINO, in float32 or bfloat16.

A backend turns heads of one image size into a module from pixels [N, 3, H, W], uint8 or float in 0..1, and the places
of some of the heads, to a list of their logits [N, outputs], as `heads.model.shared.SharedHeads` is. All use PyTorch's
number of threads, which OMP_NUM_THREADS sets; only PyTorch uses a GPU.
"""

import copy
import hashlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import ModuleType
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from data.images.decode import decoder_versions
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline
from heads.export.graph import write_onnx
from heads.load import TrainedHead
from heads.model.fusion import fuse_batch_norm
from heads.model.shared import SharedHeads

INPUT = "pixels"
ENGINES_FOLDER = "engines"  # in a folder of runs
PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
# Batches computed side by side, if more than one: OpenVINO spreads a batch's requests over the cores, and the last ones
# leave cores idle. PyTorch's threads only get into each other's way.
BATCHES_AT_ONCE = {"openvino": 2}
GRAPH_SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
PRECISIONS = {"torch": ("fp32", "bf16"), "onnx": ("fp32",), "openvino": ("fp32", "bf16")}
# Of probabilities, against PyTorch's in float32.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.02}
COMPARED = 8  # images
# OpenVINO gets whole chunks only: in a model for any number of images its int8 convolutions are wrong (2026.4.1, on
# a processor with VNNI), and larger batches are no faster.
CHUNK = 16
FEW = 4  # images that are computed one by one


class Backend(Protocol):
    """Computes heads; `describe` names all that decides the last bits of the results."""

    @property
    def engine(self) -> str: ...

    def __call__(self, heads: Sequence[TrainedHead], /) -> nn.Module: ...

    def describe(self) -> str: ...


@dataclass(frozen=True)
class EngineBackend:
    """An engine, a key of `PACKAGES`, in one of its `PRECISIONS`.

    Attributes:
        share: layers that are equal in several heads are computed once.
        folder: gets graphs and compiled models, for the next run; None: they are made anew.
    """

    engine: str = "torch"
    precision: str = "fp32"
    share: bool = True
    folder: Path | None = field(default=None, compare=False)

    def __call__(self, heads: Sequence[TrainedHead]) -> nn.Module:
        if self.engine == "torch":
            module: nn.Module = torch_module(heads, self.precision, self.share)
        elif self.engine == "onnx":
            module = OnnxHeads(onnx_graph(heads, self.folder))
        else:
            module = OpenVinoHeads(openvino_model(heads, self.folder), self.precision, self.folder)
        is_reference = self.engine == DEFAULT.engine and self.precision == DEFAULT.precision
        return module if is_reference else CheckedModule(module, heads, self)

    def describe(self) -> str:
        """The engine with the version of its package, and the precision."""
        return f"{backend_version(self.engine)}{'' if self.precision == 'fp32' else f', {self.precision}'}"


DEFAULT = EngineBackend()


class CheckedModule(nn.Module):
    """A backend's module; InputError if probabilities of the first images are not PyTorch's in float32.

    They may differ by `TOLERANCES`, and in the class of one image.
    """

    def __init__(self, module: nn.Module, heads: Sequence[TrainedHead], backend: EngineBackend) -> None:
        super().__init__()
        self.module, self.backend = module, backend
        self.unchecked = dict(enumerate(heads))

    def forward(self, pixels: Tensor, places: Sequence[int] | None = None) -> list[Tensor]:
        logits: list[Tensor] = self.module(pixels, places)
        for place, found in zip(range(len(logits)) if places is None else places, logits, strict=True):
            trained = self.unchecked.get(place)  # another thread may finish the comparison meanwhile
            if trained is not None and len(pixels):
                self._check(trained, pixels[:COMPARED], found[:COMPARED])
                self.unchecked.pop(place, None)
        return logits

    def _check(self, trained: TrainedHead, pixels: Tensor, logits: Tensor) -> None:
        head = trained.head.to(pixels.device)
        found, expected = (trained.target.probabilities(each) for each in (logits, head(pixels)))
        difference, tolerance = (found - expected).abs().max().item(), TOLERANCES[self.backend.precision]
        other = int((found.argmax(dim=1) != expected.argmax(dim=1)).sum())
        if not difference <= tolerance or other > 1:
            raise InputError(
                f"--engine {self.backend.engine} --precision {self.backend.precision}: probabilities of "
                f"{trained.config.task} differ from PyTorch's in float32 by {difference:.2g}, expected at most "
                f"{tolerance:g}; use --engine torch --precision fp32 here"
            )


class OnnxHeads(nn.Module):
    """The heads' ONNX graph in ONNX Runtime, on the CPU; an output of each head."""

    def __init__(self, graph: bytes) -> None:
        super().__init__()
        self.graph, self.sessions = graph, dict[tuple[int, ...] | None, Any]()

    def forward(self, pixels: Tensor, places: Sequence[int] | None = None) -> list[Tensor]:
        session = self.session(None if places is None else tuple(places))
        return [torch.from_numpy(each) for each in session.run(None, {INPUT: to_numpy(pixels)})]

    def session(self, places: tuple[int, ...] | None) -> Any:
        """A session of the part of the graph that some heads need, since ONNX Runtime computes all that it has."""
        if places not in self.sessions:
            runtime, onnx = (import_optional(name, "--engine onnx") for name in ("onnxruntime", "onnx"))
            model = onnx.load_from_string(self.graph)
            names = [output.name for output in model.graph.output]
            chosen = names if places is None else [names[place] for place in places]
            options = runtime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
            part = onnx.utils.Extractor(model).extract_model([INPUT], chosen).SerializeToString()
            self.sessions[places] = runtime.InferenceSession(part, options, providers=["CPUExecutionProvider"])
        return self.sessions[places]


class OpenVinoHeads(nn.Module):
    """The heads' `openvino.Model`, with an output of each head, on the CPU, in chunks of one size."""

    def __init__(self, model: Any, precision: str = "fp32", cache: Path | None = None) -> None:
        super().__init__()
        self.model, self.precision = model, precision
        self.cache = {} if cache is None else {"CACHE_DIR": str(cache / "compiled")}
        self.compiled: dict[tuple[tuple[int, ...], int], Any] = {}
        self.compiling = Lock()

    def forward(self, pixels: Tensor, places: Sequence[int] | None = None) -> list[Tensor]:
        chosen = tuple(range(len(self.model.outputs)) if places is None else places)
        # A whole chunk would be mostly padding for a few images.
        size = 1 if len(pixels) <= FEW else CHUNK
        chunks = [to_numpy(part) for part in torch.split(pixels, size)]
        chunks[-1] = np.pad(chunks[-1], ((0, size - len(chunks[-1])), *((0, 0),) * 3))
        with self.compiling:  # once, also where threads share the model
            compiled = self.compile(chosen, size)
        # Requests of this call alone, since threads may share the model; they run side by side, one per stream.
        requests = [compiled.create_infer_request() for _ in chunks]
        for request, chunk in zip(requests, chunks, strict=True):
            request.start_async([chunk], share_inputs=True)
        for request in requests:
            request.wait()
        # A copy: the request's memory goes with it.
        logits = [
            torch.from_numpy(np.concatenate([request.get_output_tensor(output).data for request in requests]))
            for output in range(len(chosen))
        ]
        return [each[: len(pixels)] for each in logits]

    def compile(self, places: tuple[int, ...], size: int) -> Any:
        """Compile the part of the model that some heads need, for so many images at once."""
        if (places, size) not in self.compiled:
            openvino = import_optional("openvino", "--engine openvino")
            part = openvino.Model([self.model.outputs[place] for place in places], self.model.get_parameters())
            part = part.clone()
            part.reshape([size, *(dimension.get_length() for dimension in part.input().partial_shape[1:])])
            threads = torch.get_num_threads()
            properties = {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1 if size == 1 else threads,
                "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[self.precision],
            }
            self.compiled[places, size] = openvino_core().compile_model(part, "CPU", properties | self.cache)
        return self.compiled[places, size]


def torch_module(heads: Sequence[TrainedHead], precision: str = "fp32", share: bool = True) -> SharedHeads:
    """PyTorch: channels-last memory, batch norm fused into the convolutions; bfloat16 but for the classifiers."""
    fused = [fuse_batch_norm(trained.head) for trained in heads]
    if precision == "bf16":
        fused = [copy.deepcopy(each) for each in fused]
        for each in fused:
            each.get_submodule("backbone").bfloat16()
    return SharedHeads(fused, share)


def select_device(engine: str) -> torch.device:
    """Select the GPU for PyTorch if there is one, else the CPU."""
    return torch.device("cuda" if engine == "torch" and torch.cuda.is_available() else "cpu")


def describe_device(device: torch.device) -> str:
    """Describe what else decides the last bits of a backend's results: device, version of PyTorch and threads."""
    return f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def software_versions(engine: str) -> dict[str, str]:
    """Versions of what decides the last bits of pixels and predictions with an engine, by name."""
    decoders = ", ".join(map(str, decoder_versions()))
    return {"engine": backend_version(engine), "torch": torch.__version__, "cv2": cv2.__version__, "decoders": decoders}


def backend_version(engine: str) -> str:
    """Name an engine, a key of `PACKAGES`, with the version of its package; InputError if that is not installed."""
    return f"{engine} {import_optional(PACKAGES[engine], f'--engine {engine}').__version__}"


def onnx_graph(heads: Sequence[TrainedHead], folder: Path | None = None) -> bytes:
    """Export heads of one image size to ONNX: any number of images, and an output of logits for each head.

    Heads from files whose checksums were computed are exported into `folder` once.
    """
    with TemporaryDirectory() as temporary:
        path = _cached_file(heads, folder, "onnx") or Path(temporary, "heads.onnx")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            outputs = [f"logits_{place}" for place in range(len(heads))]
            example = torch.zeros(2, 3, *input_size(heads[0]))
            write_onnx(path, torch_module(heads), outputs, INPUT, example, ("n",))
        return path.read_bytes()


def openvino_model(heads: Sequence[TrainedHead], folder: Path | None = None) -> Any:
    """Convert heads of one image size to an `openvino.Model`; kept in `folder` as by `onnx_graph`.

    OpenVINO reads its own format in hundredths of a second, ONNX in tenths.
    """
    core, path = openvino_core(), _cached_file(heads, folder, "openvino")
    if path is None:
        return core.read_model(onnx_graph(heads))
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as temporary:
            new = Path(temporary, path.name)
            openvino = import_optional("openvino", "--engine openvino")
            openvino.save_model(core.read_model(onnx_graph(heads)), new, compress_to_fp16=False)
            for file in (new.with_suffix(".bin"), new):  # first the weights, without which the other cannot be read
                file.replace(path.with_name(file.name))
    return core.read_model(path)


def _cached_file(heads: Sequence[TrainedHead], folder: Path | None, engine: str) -> Path | None:
    """The file in `folder` for the graph of heads; None if there is no folder, or a head without a checksum."""
    sums = [head.checksum for head in heads]
    if folder is None or not all(sums):
        return None
    name = hashlib.sha256(f"{sums} torch {torch.__version__}, {backend_version(engine)}".encode()).hexdigest()[:16]
    return folder / f"{name}{GRAPH_SUFFIXES[engine]}"


@cache
def openvino_core() -> Any:
    """OpenVINO's `Core`, one for the life of the process.

    Each `Core` that compiles for the CPU gives its thread a stack for signal handlers and, at its end, the one of
    before back. If cores end in the order in which they were made, that one is unmapped memory, and the next signal (a
    worker that exits) is a segmentation fault.
    """
    openvino: Any = import_optional("openvino", "--engine openvino")
    # The first use makes tables of types. Two threads that make them at once wait for each other for ever: one for
    # Python's lock, the other for that of the table.
    openvino.Tensor(np.zeros(1, dtype=np.float32)).get_element_type().to_dtype()
    return openvino.Core()


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
