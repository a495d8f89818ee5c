"""Modules as ONNX and TorchScript files that run without this program, from images of any size."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from data.runtime.errors import InputError
from data.runtime.files import write_atomically
from heads.export.letterbox import make_scaling
from heads.load import TrainedHead
from heads.model.head import Head
from heads.objective.targets import Target
from heads.run.checkpoint import save_tensors

INPUT = "photographs"  # part of the file format: programs feed the graph by this name
# The sides differ from each other and from every other size, so that none is recorded as a constant.
EXAMPLE = (2, 150, 110, 3)


def output_shapes(trained: TrainedHead, maps: bool = False) -> dict[str, tuple[int | str, ...]]:
    """The outputs of a head's graph in their order: names, and sizes without the number of images."""
    classes = len(trained.target.classes)
    outputs: dict[str, tuple[int | str, ...]] = {"probabilities": (classes,)}
    outputs |= {} if trained.target.numbers is None else {"number": ()}
    return outputs | {"maps": (classes, "h", "w")} if maps and has_maps(trained) else outputs


def has_maps(trained: TrainedHead) -> bool:
    """Whether a head's classes have activation maps: its classifier is one layer, and its outputs are not ordinal."""
    return not trained.config.classifier.hidden and trained.target.ordinal is None


def class_maps(target: Target, logits: Tensor, maps: Tensor) -> Tensor:
    """Maps of the classes [N, C, h, w] from those of the outputs [N, outputs, h, w].

    Where outputs are numbers, those of a class are averaged with their shares of its probability as weights: the
    gradient of the logarithm of their summed exponentials.
    """
    outputs = logits.softmax(dim=1)
    shares = outputs / target.probabilities(logits).index_select(1, target.pool).clamp_min(torch.finfo().tiny)
    sums = maps.new_zeros(maps.shape[0], len(target.classes), *maps.shape[2:])
    return sums.index_add(1, target.pool, shares[:, :, None, None] * maps)


def calibrate_tensor(probabilities: Tensor, temperature: float) -> Tensor:
    """`heads.objective.calibration.calibrate` of a tensor [N, C]."""
    if temperature == 1:
        return probabilities
    return (probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log() / temperature).softmax(dim=1)


class HeadGraph(nn.Module):
    """Images uint8 [N, h, w, 3] (RGB) to calibrated probabilities [N, C] and, if the head predicts one, the number [N].

    With `maps`, activation maps of the classes [N, C, h, w] follow for a head that has them.
    """

    def __init__(self, trained: TrainedHead, name: str, maps: bool = False) -> None:
        super().__init__()
        self.scaling = make_scaling(trained.config.pixels.evaluate, name)
        self.temperature = trained.temperature
        self.head, self.target, self.maps = trained.head, trained.target, maps and has_maps(trained)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = self.scaling(images) / 255
        logits, maps = cast(Head, self.head).activation_maps(pixels) if self.maps else (self.head(pixels), None)
        outputs = [calibrate_tensor(self.target.probabilities(logits), self.temperature)]
        outputs += [] if self.target.numbers is None else [self.target.expectation(logits)]
        return (*outputs, *([] if maps is None else [class_maps(self.target, logits, maps)]))


def export_head(trained: TrainedHead, path: Path, maps: bool = False) -> None:
    """Write one head in the format of the file's suffix: .onnx, .pt (TorchScript) or .safetensors."""
    if path.suffix == ".onnx":
        write_onnx(path, HeadGraph(trained, path.stem, maps), list(output_shapes(trained, maps)))
    elif path.suffix == ".pt":
        write_torchscript(path, HeadGraph(trained, path.stem, maps))
    else:
        from heads.run.leakage import PEOPLE, find_training_people  # late: predictions need no tables

        description: dict[str, object] = {"config": trained.config.model_dump(), "validation": trained.validation}
        description |= {"box_margin": trained.box_margin, "temperature": trained.temperature}
        description |= {PEOPLE: find_training_people(trained.file).to_json()}
        save_tensors(path, trained.head.state_dict(), description)


def write_onnx(
    path: Path,
    graph: nn.Module,
    outputs: Sequence[str],
    name: str = INPUT,
    example: Tensor | None = None,
    free: Sequence[str] = ("n", "height", "width"),
    vectors: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Write a `graph` as an ONNX file, atomically.

    Args:
        example: an input; None: images [n, height, width, 3].
        free: names of its first dimensions, which may have any size; the others stay as in the example.
        vectors: examples of further inputs by name, each of any length.

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
            (torch.zeros(EXAMPLE, dtype=torch.uint8) if example is None else example, *vectors.values()),
            temporary,
            input_names=[name, *vectors],
            output_names=list(outputs),
            dynamic_shapes=tuple(
                {place: torch.export.Dim(size) for place, size in enumerate(sizes)}
                for sizes in (free, *([each] for each in vectors))
            ),
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
