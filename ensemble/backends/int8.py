"""Heads in int8 for OpenVINO: post-training quantisation by NNCF, checked on each head's validation images.

Weights have a scale per channel, activations one per tensor, from training images; biases are then corrected for the
mean error (Nagel et al. 2019, arXiv:1906.04721). Quantised heads are cached in a hidden folder `.int8` of the head's
run, one file a head, under a digest of all that decides it: the head, the images, packages and processor.
"""

import hashlib
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
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from data.annotations.table import read_table
from data.audit.validation import read_validation
from data.dataset import make_scaled_reader
from data.images.crop import CroppedReader
from data.runtime.arrays import UNREADABLE
from data.runtime.errors import InputError, raise_all
from data.runtime.files import hold_lock, remove_unfinished
from data.runtime.machine import CPUINFO, instruction_sets
from data.transforms.pipeline import Pipeline, least_size
from ensemble.backends.engines import OpenVinoHeads, backend_version, import_optional, openvino_model, torch_module
from ensemble.inference.parts import fingerprint
from ensemble.inference.predictor import Task, load_batches
from heads.load import TrainedHead
from heads.objective.metrics import macro_f1
from heads.run.folder import verify_checksum, write_arrays

FORMAT = 3  # 3: JPEGs decoded at the smallest scale that the pipelines need
OPTION = "--precision int8"
CALIBRATION_IMAGES, MIN_CALIBRATION_IMAGES = 300, 50
BATCH = 16
MAX_LOSS = 0.003  # of macro F1
# Number of first convolutions left in float, until the loss is small; 5 are those up to resnet18's first stage.
FLOAT_CONVOLUTIONS = (0, 1, 5)
FOLDER = ".int8"
# Names of instructions that add products of bytes in 32 bits: of x86 and, last, of ARM.
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}

Model = tuple[bytes, bytes]  # OpenVINO's two files: the graph and the weights
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class QuantisedHead:
    """A head in int8.

    Attributes:
        key: digest of all that decided it.
        model: for OpenVINO.
        before, after: macro F1 on the validation images, in single precision and in int8.
    """

    key: str
    model: Model
    before: float
    after: float

    @property
    def is_good(self) -> bool:
        return self.before - self.after <= MAX_LOSS


class Int8Backend:
    """The backend that computes quantised heads; they are loaded from the cache, or made, at first use.

    Args:
        tasks: by name, their heads loaded from files; `validation.npz` is beside each.
        training: the data folders that the heads were trained on.
        beside: gets the folder `.int8` where a run's folder is read-only.
        crops: reads images; None decodes JPEGs at the smallest scale that the tasks need, as predictions do.
        workers: decoding processes.

    Raises:
        InputError: at first use: a package is missing, there are too few images to calibrate on, validation images
            are missing, or heads lose more than `MAX_LOSS` of macro F1; all such heads are named at once.
    """

    engine = "openvino"

    def __init__(
        self,
        tasks: Mapping[str, Task],
        training: Sequence[Path],
        beside: Path,
        crops: CroppedReader | None = None,
        workers: int = 0,
    ) -> None:
        self.tasks, self.training, self.beside, self.workers = tasks, training, beside, workers
        pipelines = [Pipeline(json.loads(task.pixels)) for task in tasks.values()]
        self.read = crops or make_scaled_reader(pipelines)
        self._pixels = crops.digest if crops else str(least_size(pipelines))

    def __call__(self, heads: Sequence[TrainedHead]) -> nn.Module:
        return SeparateHeads([run_model(self.heads[trained.checksum].model) for trained in heads])

    def describe(self) -> str:
        """The engine with its version, and the heads' digest."""
        return f"{backend_version(self.engine)}, int8 {self.digest}"

    @property
    def digest(self) -> str:
        """Digest of all that decides the heads' results."""
        return ",".join(head.key for head in self.heads.values())

    @cached_property
    def heads(self) -> dict[str, QuantisedHead]:
        """The quantised heads by the checksum of the head."""
        table = read_table(self.training)
        heads, problems = {}, []
        for name, task in self.tasks.items():
            for trained in task.heads:
                head = self._load_or_quantise(trained, table)
                folder = trained.run.folder
                loss = f"macro F1 {head.before:.4f} in float32, {head.after:.4f} in int8 on its validation images"
                print(f"{name}: {folder}: {loss}", file=sys.stderr, flush=True)
                if not head.is_good:
                    problems.append(f"{folder}: {loss}, expected to lose at most {MAX_LOSS}")
                heads[trained.checksum] = head
        raise_all(f"{OPTION}: heads lose too much, use --precision fp32", problems)
        return heads

    def _load_or_quantise(self, trained: TrainedHead, table: pd.DataFrame) -> QuantisedHead:
        """Load a head from the cache, or quantise it and write it there."""
        folder, validation = trained.run.folder, trained.run.validation
        held_out, overflow_fix = read_validation(validation), not has_dot_products()
        calibration = select_calibration_images(table, held_out)
        test = find_validation_images(table, held_out, validation)
        decisive = [
            *([FORMAT, self._pixels, MAX_LOSS, *versions()], overflow_fix, trained.checksum),
            *(verify_checksum(validation)[0], fingerprint(calibration), fingerprint(test)),
        ]
        key = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:24]
        place = folder / FOLDER if os.access(folder, os.W_OK) else self.beside / FOLDER / trained.checksum[:16]
        with hold_lock(place / ".lock", str(place), f"{place}: waiting for another process that quantises there"):
            head = _load(place / f"{key}.npz")
            if head is None:
                truth = held_out["truth"]
                pixels = torch.cat(list(self._batches(trained, calibration))).float() / 255
                before = self._score(trained, torch_module([trained]), test, truth)
                for in_float in FLOAT_CONVOLUTIONS:
                    model = quantise(trained, list(pixels.numpy()), overflow_fix, in_float)
                    head = QuantisedHead(key, model, before, self._score(trained, run_model(model), test, truth))
                    if head.is_good:
                        break
                assert head is not None
                _save(place / f"{key}.npz", head)
        return head

    def _score(
        self, trained: TrainedHead, module: nn.Module, paths: Sequence[Path], truth: npt.NDArray[np.int64]
    ) -> float:
        """Macro F1 of a module that computes a head, in the identity view."""
        with torch.inference_mode():
            logits = torch.cat([module(pixels)[0] for pixels in self._batches(trained, paths)])
            predicted = trained.target.probabilities(logits).numpy().argmax(axis=1)
        return macro_f1(truth, predicted, len(trained.target.classes))

    def _batches(self, trained: TrainedHead, paths: Sequence[Path]) -> Iterator[torch.Tensor]:
        """Yield batches of images from the head's evaluation pipeline: uint8 [B, 3, H, W]."""
        pipelines = [Pipeline(trained.config.pixels.evaluate)]
        return (batch.pixels[0] for batch in load_batches(paths, pipelines, BATCH, self.workers, self.read))


def select_calibration_images(table: pd.DataFrame, held_out: Arrays) -> list[Path]:
    """Select up to `CALIBRATION_IMAGES` images of people outside a head's validation set, always the same ones.

    They are from the sources that contain its validation people, if any does: the head was trained on the others
    there. People are compared by name only, so that a copy of the data in another folder leaks no one.

    Raises:
        InputError: there are fewer than `MIN_CALIBRATION_IMAGES`.
    """
    held = table["person"].isin(held_out["person"].astype(str)) | table["path"].isin(held_out["path"].astype(str))
    own = table["source"].isin(table["source"][held]) if held.any() else True
    paths = sorted(table["path"][~held & own])
    if len(paths) < MIN_CALIBRATION_IMAGES:
        raise InputError(
            f"{OPTION}: found {len(paths)} images of people to train on, expected at least {MIN_CALIBRATION_IMAGES} to "
            "calibrate on; give the training data with --calibration, or use --precision fp32"
        )
    drawn = np.random.default_rng(0).choice(len(paths), min(CALIBRATION_IMAGES, len(paths)), replace=False)
    return [Path(paths[place]) for place in sorted(drawn)]


def find_validation_images(table: pd.DataFrame, held_out: Arrays, validation: Path) -> list[Path]:
    """Find the images of `validation`, in its order: where they were in training, else in the training data.

    Raises:
        InputError: some are in neither place.
    """
    by_name = {(person, Path(path).name): path for person, path in zip(table["person"], table["path"], strict=True)}
    paths = []
    for person, name in zip(held_out["person"].astype(str), held_out["path"].astype(str), strict=True):
        path = Path(name)
        paths.append(path if path.is_file() else Path(by_name.get((person, path.name), path)))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{validation}: {len(missing)} of its {len(paths)} images, on which int8 is checked, are not there, "
            f"such as {missing[0]}; give all training data with --calibration, or use --precision fp32"
        )
    return paths


def has_dot_products(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor, by Linux's description, adds products of bytes without overflow; False if unknown."""
    cores = instruction_sets(cpuinfo)
    return bool(cores) and all(DOT_PRODUCTS & each for each in cores)


def quantise(
    trained: TrainedHead,
    images: Sequence[npt.NDArray[np.float32]],
    overflow_fix: bool,
    in_float: int = 0,
) -> Model:
    """Quantise a head's model to int8.

    Args:
        trained: is not changed.
        images: to calibrate on, from the head's pipeline: float [3, H, W] in 0..1.
        overflow_fix: limits weights to seven bits, for processors that add products of bytes in 16 bits.
        in_float: number of convolutions, from the input on, that stay in float: slower, closer to the head.
    """
    nncf = _import_nncf()
    fix = nncf.OverflowFix.ENABLE if overflow_fix else nncf.OverflowFix.DISABLE
    model = openvino_model([trained])
    model.reshape([1, *images[0].shape])
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    ignored = [convolution.get_friendly_name() for convolution in convolutions[:in_float]]
    with silence():
        quantised = nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=ignored),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
        )
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.xml"
        import_optional("openvino", OPTION).save_model(quantised, graph, compress_to_fp16=False)
        return graph.read_bytes(), graph.with_suffix(".bin").read_bytes()


class SeparateHeads(nn.Module):
    """Heads computed one after the other."""

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, pixels: torch.Tensor, places: Sequence[int] | None = None) -> list[torch.Tensor]:
        return [self.heads[place](pixels)[0] for place in (range(len(self.heads)) if places is None else places)]


def run_model(model: Model) -> OpenVinoHeads:
    """Make the module that computes a model of `quantise`: pixels to the logits of one head."""
    return OpenVinoHeads(import_optional("openvino", OPTION).Core().read_model(*model))


def versions() -> list[str]:
    """Versions of the packages that decide the result of `quantise`."""
    return [str(each.__version__) for each in (import_optional("openvino", OPTION), _import_nncf())]


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


def _load(file: Path) -> QuantisedHead | None:
    """Load a head from the cache; None if the file is missing or damaged."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            model = arrays["graph"].tobytes(), arrays["weights"].tobytes()
            before, after = arrays["macro_f1"].tolist()
    except UNREADABLE:
        return None
    return QuantisedHead(file.stem, model, before, after)


def _save(file: Path, head: QuantisedHead) -> None:
    """Write one head's file and remove all others."""
    file.parent.mkdir(parents=True, exist_ok=True)
    graph, weights = (np.frombuffer(part, dtype=np.uint8) for part in head.model)
    write_arrays(file, {"graph": graph, "weights": weights, "macro_f1": [head.before, head.after]})
    remove_unfinished(file.parent)
    for other in file.parent.glob("*.npz"):
        if other != file:
            other.unlink(missing_ok=True)
