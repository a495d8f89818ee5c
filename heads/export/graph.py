"""Modules as ONNX and TorchScript files that run without this program, from images of any size."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from data.runtime.errors import InputError
from data.runtime.files import write_atomically
from heads.build import TrainedHead
from heads.export.letterbox import make_scaling
from heads.run.checkpoint import save_tensors

INPUT = "photographs"  # part of the file format: programs feed the graph by this name
# The sides differ from each other and from every other size, so that none is recorded as a constant.
EXAMPLE = (2, 150, 110, 3)


def output_shapes(trained: TrainedHead) -> dict[str, tuple[int, ...]]:
    """The outputs of a head's graph in their order: names, and sizes without the number of images."""
    outputs: dict[str, tuple[int, ...]] = {"probabilities": (len(trained.target.classes),)}
    return outputs if trained.target.numbers is None else outputs | {"number": ()}


class HeadGraph(nn.Module):
    """Images uint8 [N, h, w, 3] (RGB) to class probabilities [N, C] and, if it predicts one, the number [N]."""

    def __init__(self, trained: TrainedHead, name: str) -> None:
        super().__init__()
        self.scaling = make_scaling(trained.config.pixels.evaluate, name)
        self.head, self.target = trained.head, trained.target

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.head(self.scaling(images) / 255)
        probabilities = self.target.probabilities(logits)
        if self.target.numbers is None:
            return (probabilities,)
        return probabilities, self.target.expectation(logits)


def export_head(trained: TrainedHead, path: Path) -> None:
    """Write one head in the format of the file's suffix: .onnx, .pt (TorchScript) or .safetensors."""
    if path.suffix == ".onnx":
        write_onnx(path, HeadGraph(trained, path.stem), list(output_shapes(trained)))
    elif path.suffix == ".pt":
        write_torchscript(path, HeadGraph(trained, path.stem))
    else:
        description: dict[str, object] = {"config": trained.config.model_dump(), "validation": trained.validation}
        description["box_margin"] = trained.box_margin
        save_tensors(path, trained.head.state_dict(), description)


def write_onnx(
    path: Path,
    graph: nn.Module,
    outputs: Sequence[str],
    name: str = INPUT,
    example: Tensor | None = None,
    free: Sequence[str] = ("n", "height", "width"),
) -> None:
    """Write a `graph` of one tensor as an ONNX file, atomically.

    Args:
        example: an input; None: images [n, height, width, 3].
        free: names of its first dimensions, which may have any size; the others stay as in the example.

    Raises:
        InputError: onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"ONNX takes {error.name}, which is not installed: pip install -r requirements-bring.txt"
        ) from None
    with write_atomically(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of changes in its next releases
        torch.onnx.export(
            graph.eval(),
            (torch.zeros(EXAMPLE, dtype=torch.uint8) if example is None else example,),
            temporary,
            input_names=[name],
            output_names=list(outputs),
            dynamic_shapes=({place: torch.export.Dim(size) for place, size in enumerate(free)},),
            external_data=False,
            verbose=False,
        )


def write_torchscript(path: Path, graph: nn.Module) -> None:
    """Write `graph` as TorchScript, which `torch.jit.load` runs without its source, atomically."""
    example = torch.zeros(EXAMPLE, dtype=torch.uint8)
    with write_atomically(path) as temporary, warnings.catch_warnings(), torch.inference_mode():
        # torch warns that the format is deprecated, and of the number of classes, which is a constant.
        warnings.simplefilter("ignore")
        script = torch.jit.trace(graph.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        script.save(str(temporary))
