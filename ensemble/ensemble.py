"""Trained heads of every task of the joint code: images in, classes, probabilities and numbers out."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from data.dataset import Sample, make_scaled_reader
from data.images.crop import CroppedReader, make_reader
from data.images.decode import Read, decoder_versions
from data.images.find import ID, IMAGES, image_paths
from data.images.inputs import ImageInput, ImageInputs, list_inputs
from data.runtime.errors import InputError, did_you_mean, raise_all
from data.runtime.processes import usable_workers
from ensemble.backends.engines import (
    DEFAULT,
    PACKAGES,
    Backend,
    EngineBackend,
    describe_device,
    select_device,
)
from ensemble.files.predictions import FILE_NAME, Predictions, write_probabilities
from ensemble.files.share import find_folder, save_folder
from ensemble.files.submission import read_ground_truth
from ensemble.inference.choice import (
    AUTO,
    SAMPLE,
    HeadScore,
    choose_backend,
    describe_machine,
    list_candidates,
    score_heads,
)
from ensemble.inference.early_exit import predict_adaptive
from ensemble.inference.exit_threshold import load_exit_threshold
from ensemble.inference.load import load_tasks
from ensemble.inference.parts import make_key, part_size
from ensemble.inference.predictor import Predictor, Task, choose_views, load_batches
from heads.load import TrainedHead

CHOICES = {
    "engine": (AUTO, *PACKAGES),
    "precision": (AUTO, "fp32", "bf16", "int8"),
    "views": ("plain", "default", "all", "adaptive"),
}


@dataclass(frozen=True, repr=False)
class Ensemble:
    """The tasks' heads, which predict images together; threads may share one.

    Attributes:
        tasks: by name, the most significant digit of the joint code first.
        runs: folder that they were loaded from.
        backend: computes the heads, unless there are several `candidates`.
        candidates: backends of which `resolve` chooses the quickest, the default first.
        device: of the heads; None: that of the backend.
        batch_size: images computed together, which decides the last bits of probabilities.
        workers: decoding processes, which stay ahead of the heads; 0: none.
        read: path -> RGB uint8 [H, W, 3]; None decodes JPEGs at the smallest scale that the heads need.
        views: which test-time views the tasks have; "adaptive": see `ensemble.inference.early_exit`.
        margin: the threshold of adaptive views, see `ensemble.inference.early_exit`; None: `resolve` chooses it.
    """

    tasks: Mapping[str, Task]
    runs: Path = Path()
    backend: Backend = DEFAULT
    candidates: Sequence[EngineBackend] = ()
    device: torch.device | None = None
    batch_size: int = 64
    workers: int = 0
    read: Read | None = None
    views: str = "default"
    margin: float | None = None
    _resolved: list["Ensemble"] = field(default_factory=list, init=False)

    @classmethod
    def load(
        cls,
        runs: str | os.PathLike[str],
        config: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device | None = None,
        engine: str = AUTO,
        precision: str = AUTO,
        calibration: Sequence[str | os.PathLike[str]] = (),
        views: str = "default",
        margin: float | None = None,
        boxes: str | os.PathLike[str] | None = None,
        box_margin: float = 1.0,
        batch_size: int = 64,
        workers: int | None = 0,
        cache: str | os.PathLike[str] = "",
        calibrated: bool = True,
    ) -> "Ensemble":
        """Load every head of the joint code from `runs`: each task's run, or all its folds.

        Args:
            runs: folder of the runs, one of `save`, or `hf://owner/name` on the Hugging Face Hub.
            config: joint.yaml, with the tasks' YAML files beside it, which the heads must fit; None: the heads' own
                labels, in the order of `runs`/joint.yaml or the one shipped (`ensemble.inference.load`).
            device: such as "cuda:1"; None: the GPU for PyTorch if there is one, else the CPU.
            engine, precision, calibration, views, margin, boxes, box_margin: see `combine.py --help`.
            batch_size: images computed together.
            workers: decoding processes; None: one per core, at most 8; 0, as in a notebook, decodes between batches.
            cache: gets the heads in int8 where `runs` is read-only.
            calibrated: scale probabilities by the heads' temperatures; heads of version 0.1 have none.

        Raises:
            InputError: options that do not go together, or heads that are missing, damaged, or do not fit; all are
                named at once.
        """
        given = {"engine": engine, "precision": precision, "views": views}
        _check_choices(given, margin, batch_size, workers)
        where, folder, processes = _find_device(device, engine), find_folder(runs), usable_workers(workers)
        read = make_reader(None if boxes is None else Path(boxes), box_margin)
        crops = read if isinstance(read, CroppedReader) else None
        tasks = load_tasks(folder, None if config is None else Path(config), crops.margin if crops else None)
        tasks = {name: choose_views(task, views) for name, task in tasks.items()}
        if not calibrated:
            tasks = {name: replace(task, temperature=1.0) for name, task in tasks.items()}
        if precision == "int8":
            from ensemble.backends.int8 import Int8Backend  # an optional package

            training = [Path(each) for each in calibration]
            backend: Backend = Int8Backend(tasks, [folder, Path(cache)], training, crops, processes)
            candidates: Sequence[EngineBackend] = ()
        else:
            gpu = (torch.cuda.is_available() if where is None else where.type != "cpu") and engine in (AUTO, "torch")
            candidates = list_candidates(engine, precision, folder, gpu)
            backend, candidates = candidates[0], candidates if len(candidates) > 1 else ()
            backend.describe()  # refuses an engine that is not installed
        return cls(tasks, folder, backend, candidates, where, batch_size, processes, crops, views, margin)

    def resolve(self, images: ImageInput | Sequence[ImageInput] | ImageInputs | None = None) -> "Ensemble":
        """Return the ensemble with what `load` left open: the backend for engine or precision auto, and the margin.

        Both are remembered beside the runs (`ensemble.inference.choice`, `ensemble.inference.exit_threshold`).
        Predicting does this by itself.

        Args:
            images: as of `predict`; backends are measured on the first ones. None: nothing is measured.

        Raises:
            InputError: as `ensemble.inference.exit_threshold.choose_exit_threshold`.
        """
        if not self.candidates and not self._needs_margin:
            return self
        backend = self.backend
        if self.candidates:
            inputs = ImageInputs((), ()) if images is None else images
            inputs = inputs if isinstance(inputs, ImageInputs) else list_inputs(inputs)
            backend = choose_backend(
                self.candidates, self.runs, self._choice_key(), len(inputs), partial(self._measure, inputs), self._score
            )
        known = [model for model in self._resolved if model.backend == backend]
        if not known:
            model = replace(self, backend=backend, candidates=())
            if self._needs_margin:
                model = replace(model, margin=model._choose_margin())
            self._resolved.append(model)
            known = [model]
        return known[0]

    def predict(
        self, images: ImageInput | Sequence[ImageInput] | ImageInputs, *, skip_bad: bool = False
    ) -> Predictions:
        """Predict images: a path, a folder, a Pillow image, an array uint8 [H, W, 3] in RGB, or a list of these.

        Args:
            images: of a folder with info.csv and images/, those listed; see `data.images.inputs.list_inputs`.
            skip_bad: predict equal probabilities for an image that cannot be decoded, and return its error.

        Raises:
            InputError: an image cannot be decoded, or there is none.
        """
        return Predictions.concat(list(self.stream(images, skip_bad=skip_bad)))

    def stream(
        self, images: ImageInput | Sequence[ImageInput] | ImageInputs, *, skip_bad: bool = False
    ) -> Iterator[Predictions]:
        """Predict images in order, a batch at a time, so that memory does not grow; arguments are those of `predict`.

        With adaptive views, a window of `ensemble.inference.parts.ROWS` images at a time.
        """
        inputs = images if isinstance(images, ImageInputs) else list_inputs(images, missing_ok=skip_bad)
        if (model := self.resolve(inputs)) is not self:
            return model.stream(inputs, skip_bad=skip_bad)
        workers = 0 if inputs.in_memory else min(self.workers, len(inputs) // self.batch_size)
        batches = self._load_batches(inputs, workers, skip_bad)
        if self.margin is None:
            results = self.predictor.map_batches(self.predictor, batches)
        else:
            rows = part_size(self.batch_size)
            results = predict_adaptive(self.predictor, batches, self.margin, self.batch_size, rows)
        return self._name_rows(results, inputs.ids)

    def evaluate(self, answers: str | os.PathLike[str], images: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Predict labelled images and score the answers: scores of "joint" and each task, as in metrics.json.

        Args:
            answers: CSV of ImageID and ans, or of the labels by name, as of `evaluate.py`.
            images: folder of the images; None: `images` beside the answers if it is there, else where they are.

        Raises:
            InputError: answers that cannot be read, or images that are missing or cannot be decoded.
        """
        # Reports import what predictions do not need.
        from ensemble.report.analysis.report import analyse, to_json
        from ensemble.report.load.load_evaluation import load_evaluation

        answers = Path(answers)
        beside = answers.parent / IMAGES if (answers.parent / IMAGES).is_dir() else answers.parent
        labels = {name: task.heads[0].config.label for name, task in self.tasks.items()}
        ids = read_ground_truth(answers, labels)[ID].tolist()
        predictions = self.predict(ImageInputs(ids, image_paths(Path(images or beside), ids)))
        with TemporaryDirectory() as folder:
            submission = Path(folder, "submission.csv")
            predictions.to_submission(submission)
            write_probabilities(submission.with_name(FILE_NAME), ids, self.classes, [predictions], self.temperatures)
            return to_json(analyse(*load_evaluation(labels, submission, answers)))

    def export(
        self,
        kind: str = "onnx",
        out: str | os.PathLike[str] | None = None,
        calibration: Sequence[str | os.PathLike[str]] = (),
    ) -> Path:
        """Write one graph, as onnx, torchscript or safetensors, and its model card into `out`, or `runs`/export.

        int8 writes the heads as `precision="int8"` reads them into `out`, or `runs`; `calibration` are the folders of
        the training data.
        """
        from ensemble.export.graph import export_with_card  # imports what predictions do not need
        from heads.export.__main__ import SUFFIXES

        if kind == "int8":
            from ensemble.backends.int8 import write_int8  # an optional package

            folder, training = self.runs if out is None else Path(out), [Path(each) for each in calibration]
            return write_int8(self.tasks, folder, training, self.read, self.workers)
        if kind not in SUFFIXES:
            kinds = (*SUFFIXES, "int8")
            raise InputError(f"{kind!r}, expected {', '.join(kinds)}{did_you_mean(kind, kinds)}")
        return export_with_card(self.tasks, self.runs / "export" if out is None else Path(out), kind)

    def save(self, folder: str | os.PathLike[str], *, data: str | None = None, terms: str | None = None) -> None:
        """Write the heads, joint.yaml and a model card into one new folder, which `load` takes on any machine.

        `data` and `terms` describe the training data and its terms for the card. InputError: the folder is not empty.
        """
        save_folder(Path(folder), self.tasks, data, terms)

    @property
    def classes(self) -> dict[str, list[str]]:
        """Class names of each task."""
        return {name: task.classes for name, task in self.tasks.items()}

    @property
    def temperatures(self) -> dict[str, float]:
        """Temperature of each task whose probabilities are calibrated."""
        return {name: task.temperature for name, task in self.tasks.items() if task.temperature != 1}

    @property
    def checksums(self) -> dict[str, list[str]]:
        """SHA-256 of each task's checkpoints."""
        return {name: task.checksums for name, task in self.tasks.items()}

    @property
    def heads(self) -> dict[str, TrainedHead]:
        """The heads as PyTorch modules, by task; of several folds by task and fold, such as "mask/fold-0"."""
        return {
            name if len(task.heads) == 1 else f"{name}/{head.file.parent.name}": head
            for name, task in self.tasks.items()
            for head in task.heads
        }

    @property
    def settings(self) -> dict[str, object]:
        """All that decides the last bits of predictions beside heads and images."""
        computed = {"device": describe_device(self._used_device), "batch_size": self.batch_size}
        computed["decoders"] = ", ".join(map(str, decoder_versions()))
        computed["engine"] = self.backend.describe()
        computed["views"] = json.dumps({name: [*task.views] for name, task in self.tasks.items()})
        crops = self.read.digest if isinstance(self.read, CroppedReader) else None
        return {**computed, "crops": crops, "margin": self.margin, "temperatures": self.temperatures}

    @cached_property
    def predictor(self) -> Predictor:
        """The heads, prepared by the backend on the device."""
        return Predictor(self.tasks, self.backend, self._used_device)

    @property
    def _used_device(self) -> torch.device:
        return self.device or select_device(self.backend.engine)

    def __repr__(self) -> str:
        return "\n".join(
            f"{name}: {', '.join(str(head.file) for head in task.heads)}" for name, task in self.tasks.items()
        )

    def _load_batches(self, inputs: ImageInputs, workers: int, skip_bad: bool) -> Iterator[Sample]:
        """Decode images into batches for the predictor."""
        pipelines = self.predictor.pipelines
        read = inputs.make_reader(self.read or make_scaled_reader(pipelines))
        pin_memory = self.predictor.device.type == "cuda"
        return load_batches(inputs.paths, pipelines, self.batch_size, workers, read, skip_bad, pin_memory)

    def _predict_with(self, tasks: Mapping[str, Task], paths: Sequence[str]) -> Iterator[Predictions]:
        """Predict files with some of the heads, every image in all their views."""
        return replace(self, tasks=tasks, candidates=(), views="default").stream(ImageInputs(paths, paths))

    @property
    def _needs_margin(self) -> bool:
        return self.views == "adaptive" and self.margin is None

    def _choose_margin(self) -> float:
        options = {name: value for name, value in self.settings.items() if name in ("engine", "crops")}
        chosen = load_exit_threshold(self.runs, self.tasks, self._predict_with, options)
        print(chosen, file=sys.stderr, flush=True)
        return chosen.margin

    def _choice_key(self) -> str:
        """Hash what the quickest backend depends on."""
        views = {name: [*task.views] for name, task in self.tasks.items()}
        names = [(each.engine, each.precision) for each in self.candidates]
        device = str(self._used_device)
        return make_key(self.checksums, {"machine": describe_machine(), "views": views, "of": names, "on": device})

    def _measure(self, inputs: ImageInputs, backend: EngineBackend) -> Callable[[], object]:
        """Prepare a backend for the first images, which are decoded here, and return the call that predicts them."""
        model = replace(self, backend=backend, candidates=(), batch_size=SAMPLE)
        first = ImageInputs(inputs.ids[:SAMPLE], inputs.paths[:SAMPLE], inputs.in_memory)
        [batch] = model._load_batches(first, 0, True)
        return partial(model.predictor, batch)

    def _score(self, backend: EngineBackend) -> dict[str, HeadScore]:
        """Score each head on its validation images, as they are."""
        model = replace(self, backend=backend, candidates=())

        def predict(paths: Sequence[str]) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
            workers = min(self.workers, len(paths) // self.batch_size)
            batches = model._load_batches(ImageInputs(paths, paths), workers, False)
            return model.predictor.map_batches(model.predictor.head_probabilities, batches)

        return score_heads(self.tasks, predict)

    def _name_rows(self, batches: Iterator[Predictions], ids: Sequence[str]) -> Iterator[Predictions]:
        row, classes = 0, self.classes
        for batch in batches:
            yield replace(batch, ids=ids[row : row + len(batch)], classes=classes)
            row += len(batch)


def _check_choices(given: Mapping[str, str], margin: float | None, batch_size: int, workers: int | None) -> None:
    """Refuse unknown values of `CHOICES`, numbers out of range and options that do not go together."""
    problems = [
        f"{name}={value!r}, expected {' or '.join(CHOICES[name])}{did_you_mean(str(value), CHOICES[name])}"
        for name, value in given.items()
        if value not in CHOICES[name]
    ]
    if given["precision"] == "int8" and given["engine"] not in (AUTO, "openvino"):
        problems.append("precision='int8' goes with engine='openvino'")
    if given["precision"] == "bf16" and given["engine"] == "onnx":
        problems.append("precision='bf16' goes with engine='torch' or 'openvino'")
    if margin is not None and (given["views"] != "adaptive" or not 0 <= margin <= 1):
        problems.append(f"margin={margin}, expected 0 to 1 and views='adaptive'")
    if batch_size < 1:
        problems.append(f"batch_size={batch_size}, expected 1 or more")
    if workers is not None and workers < 0:
        problems.append(f"workers={workers}, expected 0 or more, or None for one per core")
    raise_all("the ensemble cannot be loaded so", problems)


def _find_device(device: str | torch.device | None, engine: str) -> torch.device | None:
    if device is None:
        return None
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device!r}: cannot be used ({str(error).splitlines()[0]}); try 'cpu'") from None
    if engine not in (AUTO, "torch") and found.type != "cpu":
        raise InputError(f"device={device!r}: engine={engine!r} computes on the CPU, expected 'cpu'")
    return found
