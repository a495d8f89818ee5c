"""Heads in int8 for OpenVINO: post-training quantisation by NNCF, checked on each head's validation images.

The heads of one image size are one graph, in which layers that they share are quantised once. Weights have a scale per
channel, activations one per tensor, from training images; biases are then corrected for the mean error (Nagel et al.
2019, arXiv:1906.04721). The graphs are in one file beside the runs, `int8.npz`, for the same heads, packages and kind
of processor, whatever images they predict.
"""

import io
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from data.dataset import make_scaled_reader
from data.images.decode import Read
from data.runtime.arrays import read_arrays, write_arrays
from data.runtime.errors import InputError, raise_all
from data.runtime.machine import CPUINFO, instruction_sets
from data.transforms.pipeline import Pipeline
from ensemble.backends.engines import (
    ENGINES_FOLDER,
    OpenVinoHeads,
    backend_version,
    import_optional,
    openvino_core,
    openvino_model,
    to_numpy,
)
from ensemble.inference.predictor import Task, load_batches
from heads.load import TrainedHead
from heads.objective.metrics import macro_f1
from heads.run.folder import file_checksum

OPTION = "--precision int8"
FILE = "int8.npz"
FORMAT = 1
COMMAND = "python -m ensemble.export --runs {0} --format int8 --calibration DIR"
BATCH = 64
MAX_LOSS = 0.003  # of macro F1
# Number of a head's first convolutions left in float, until it loses little; 5 are those of resnet18's first stage.
FLOAT_CONVOLUTIONS = (0, 1, 5)
# Names of instructions that add products of bytes in 32 bits: of x86 and, last, of ARM.
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}

Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Int8Graph:
    """Heads of one image size in int8, an output each.

    Attributes:
        heads: the checksum of each.
        scores: macro F1 of each on its validation images, in single precision and in int8.
        graph, weights: OpenVINO's two files.
    """

    heads: Sequence[str]
    scores: Sequence[Sequence[float]]
    graph: bytes
    weights: bytes

    def select(self, heads: Sequence[str]) -> Any:
        """Build the `openvino.Model` of some of the heads."""
        openvino = import_optional("openvino", OPTION)
        model = openvino_core().read_model(self.graph, self.weights)
        outputs = [model.outputs[self.heads.index(head)] for head in heads]
        return openvino.Model(outputs, model.get_parameters())


class Int8Backend:
    """The backend that computes heads in int8, from the file `int8.npz`, which is written where it is missing.

    Args:
        tasks: by name, their heads loaded from files; `validation.npz` is beside each.
        folders: that may hold the file; the first that can be written to gets it.
        training: the data folders that the heads were trained on, if the file may be written.
        read: of calibration and validation images, see `write_int8`.
        workers: decoding processes.

    Raises:
        InputError: there is no file for these heads and no `training`, or as `write_int8`.
    """

    engine = "openvino"

    def __init__(
        self,
        tasks: Mapping[str, Task],
        folders: Sequence[Path],
        training: Sequence[Path] = (),
        read: Read | None = None,
        workers: int = 0,
    ) -> None:
        heads, problems = [head for task in tasks.values() for head in task.heads], []
        for file in (folder / FILE for folder in folders):
            try:
                self.graphs = read_int8(file, heads)
                break
            except InputError as error:
                problems.append(str(error))
        else:
            if not training:
                raise_all(f"{OPTION}: {COMMAND.format(folders[0])} writes the heads in int8", problems)
            writable = (each for each in folders if os.access(each, os.W_OK))
            file = write_int8(tasks, next(writable, folders[-1]), training, read, workers)
            self.graphs = read_int8(file, heads)
        self.digest = file_checksum(file)[:16]
        self.cache = file.parent / ENGINES_FOLDER if os.access(file.parent, os.W_OK) else None

    def __call__(self, heads: Sequence[TrainedHead]) -> nn.Module:
        checksums = [trained.checksum for trained in heads]
        graph = next(each for each in self.graphs if set(checksums) <= set(each.heads))
        return OpenVinoHeads(graph.select(checksums), cache=self.cache)

    def describe(self) -> str:
        """The engine with its version, and the digest of the file, which decides the results."""
        return f"{backend_version(self.engine)}, int8 {self.digest}"


def write_int8(
    tasks: Mapping[str, Task],
    folder: Path,
    training: Sequence[Path],
    read: Read | None = None,
    workers: int = 0,
) -> Path:
    """Quantise the heads of each image size, compare them with single precision, and write them into `folder`.

    Args:
        tasks, training, workers: see `Int8Backend`.
        read: reads images; None decodes JPEGs at the smallest scale that the tasks need, as predictions do.

    Raises:
        InputError: a package is missing, there are too few images to calibrate on, validation images are missing, or
            heads lose more than `MAX_LOSS` of macro F1; all such heads are named at once, and nothing is written.
    """
    from ensemble.backends.int8_images import select_images  # late: it imports pandas

    heads = [head for task in tasks.values() for head in task.heads]
    pipelines = {task.pixels: Pipeline(json.loads(task.pixels)) for task in tasks.values()}
    read = read or make_scaled_reader(list(pipelines.values()))
    calibration, validation = select_images(heads, training)
    graphs: list[Int8Graph] = []
    for pixels, pipeline in pipelines.items():
        places = [place for place, head in enumerate(heads) if json.dumps(head.config.pixels.evaluate) == pixels]
        group = [heads[place] for place in places]

        def load(paths: Sequence[Path], pipeline: Pipeline = pipeline) -> Tensor:
            return torch.cat([batch.pixels[0] for batch in load_batches(paths, [pipeline], BATCH, workers, read)])

        images = [load(validation[place][0]) for place in places]
        graphs.append(_quantise_group(group, load(calibration), images, [validation[place][1] for place in places]))
    scores = {head: each for graph in graphs for head, each in zip(graph.heads, graph.scores, strict=True)}
    problems = []
    for trained in heads:
        before, after = scores[trained.checksum]
        text = f"{trained.run.folder}: {describe_loss(before, after)}"
        print(text, file=sys.stderr, flush=True)
        problems += [f"{text}, expected to lose at most {MAX_LOSS}"] if loses_too_much(before, after) else []
    raise_all(f"{OPTION}: heads lose too much, use --precision fp32", problems)
    arrays: dict[str, Any] = {}
    for place, each in enumerate(graphs):
        arrays |= {f"heads_{place}": each.heads, f"macro_f1_{place}": each.scores}
        arrays |= {f"graph_{place}": np.frombuffer(each.graph, np.uint8)}
        arrays |= {f"weights_{place}": np.frombuffer(each.weights, np.uint8)}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / FILE, {"written_by": describe_software(), **arrays})
    return folder / FILE


def read_int8(file: Path, heads: Sequence[TrainedHead]) -> list[Int8Graph]:
    """Read the graphs of `heads`.

    Raises:
        InputError: the file is missing, damaged, or of other heads, packages or another kind of processor.
    """
    if not file.is_file():
        raise InputError(f"{file}: not there")
    arrays = read_arrays(file, "heads in int8")
    found = arrays.get("written_by", np.array("")).tolist()
    if found != describe_software():
        raise InputError(f"{file}: written by {found or 'another program'}, expected {describe_software()}")
    graphs = [
        Int8Graph(
            arrays[f"heads_{place}"].tolist(),
            arrays[f"macro_f1_{place}"].tolist(),
            arrays[f"graph_{place}"].tobytes(),
            arrays[f"weights_{place}"].tobytes(),
        )
        for place in range(sum(name.startswith("heads_") for name in arrays))
    ]
    known = {head for each in graphs for head in each.heads}
    raise_all(f"{file}: of other heads", [f"{each.file}: not in it" for each in heads if each.checksum not in known])
    return graphs


def _quantise_group(
    heads: Sequence[TrainedHead], calibration: Tensor, images: Sequence[Tensor], truth: Sequence[Classes]
) -> Int8Graph:
    """Quantise heads of one image size; convolutions stay in float until each head's loss is small.

    Args:
        calibration: pixels uint8 [N, 3, H, W].
        images, truth: of each head, pixels [N, 3, H, W] to compare on and their classes [N].
    """
    full, overflow_fix = openvino_model(heads), not has_dot_products()
    before = _score(OpenVinoHeads(full), heads, images, truth)
    in_float, lossy = [0] * len(heads), list(range(len(heads)))
    for count in FLOAT_CONVOLUTIONS:
        in_float = [count if place in lossy else each for place, each in enumerate(in_float)]
        model = quantise(full, to_numpy(calibration), overflow_fix, in_float)
        scores = list(zip(before, _score(OpenVinoHeads(model), heads, images, truth), strict=True))
        lossy = [place for place, each in enumerate(scores) if loses_too_much(*each)]
        if not lossy:
            break
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        import_optional("openvino", OPTION).save_model(model, file, compress_to_fp16=False)
        checksums = [head.checksum for head in heads]
        return Int8Graph(checksums, scores, file.read_bytes(), file.with_suffix(".bin").read_bytes())


def _score(
    module: nn.Module, heads: Sequence[TrainedHead], images: Sequence[Tensor], truth: Sequence[Classes]
) -> list[float]:
    """Macro F1 of each head in the identity view."""
    scores = []
    for place, (trained, pixels, right) in enumerate(zip(heads, images, truth, strict=True)):
        with torch.inference_mode():
            logits = torch.cat([module(batch, [place])[0] for batch in torch.split(pixels, BATCH)])
            predicted = trained.target.probabilities(logits).numpy().argmax(axis=1)
        scores.append(macro_f1(right, predicted, len(trained.classes)))
    return scores


def loses_too_much(before: float, after: float) -> bool:
    """Whether int8 costs more macro F1 than it may."""
    return before - after > MAX_LOSS


def describe_loss(before: float, after: float) -> str:
    """Describe a head's macro F1 in both precisions."""
    return f"macro F1 {before:.4f} in float32, {after:.4f} in int8 on its validation images"


def has_dot_products(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor, by Linux's description, adds products of bytes without overflow; False if unknown."""
    cores = instruction_sets(cpuinfo)
    return bool(cores) and all(DOT_PRODUCTS & each for each in cores)


def quantise(
    model: Any,
    images: npt.NDArray[np.float32],
    overflow_fix: bool,
    in_float: Sequence[int],
) -> Any:
    """Quantise an `openvino.Model` of heads to int8.

    Args:
        model: is not changed.
        images: to calibrate on, from the heads' pipeline: [N, 3, H, W] in 0..1.
        overflow_fix: limits weights to seven bits, for processors that add products of bytes in 16 bits.
        in_float: of each head, how many of its first convolutions stay in float: slower, closer to the head.
    """
    nncf, openvino = _import_nncf(), import_optional("openvino", OPTION)
    fix = nncf.OverflowFix.ENABLE if overflow_fix else nncf.OverflowFix.DISABLE
    model = model.clone()
    model.reshape([1, *images.shape[1:]])
    ignored = set()
    for output, count in zip(model.outputs, in_float, strict=True):
        nodes = openvino.Model([output], model.get_parameters()).get_ordered_ops()
        names = [node.get_friendly_name() for node in nodes if node.get_type_name() == "Convolution"]
        ignored |= set(names[:count])
    with silence():
        return nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=sorted(ignored)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
        )


def describe_software() -> str:
    """Describe what decides the results of int8 beside heads and images: file format, packages, kind of processor."""
    packages = []
    for name in ("openvino", "nncf"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            raise InputError(f"{OPTION}: {name} is not installed; pip install -r requirements-fast.txt") from None
    return f"format {FORMAT}, {', '.join(packages)}, weights of {'eight' if has_dot_products() else 'seven'} bits"


def _import_nncf() -> Any:
    with silence():
        return import_optional("nncf", OPTION)


@contextmanager
def silence() -> Iterator[None]:
    """Silence the progress bars and messages of NNCF and of what it imports."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
