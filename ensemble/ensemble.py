"""Trained heads of every task of the joint code, loaded from a folder of runs."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from data.images.decode import Read
from data.runtime.errors import raise_all
from ensemble.backends.engines import Backend, torch_backend
from ensemble.files.predictions import Predictions
from ensemble.inference.early_exit import predict_adaptive
from ensemble.inference.parts import part_size
from ensemble.inference.predictor import Predictor, Task, build_task, load_batches
from ensemble.joint import load_labels
from heads.build import TrainedHead, load_head
from heads.config.task import Label
from heads.run.folder import find_trained_runs, run_folder, verify_checksum

# Settings in which the folds of a task must agree, since their probabilities are averaged.
SHARED_KEYS = (
    *("label.classes", "label.borders", "label.column", "label.parts", "label.distribution", "label.ordinal"),
    *("pixels.evaluate", "views.steps", "views.merge"),
)


@dataclass(frozen=True)
class Ensemble:
    """The tasks' heads, which predict images together.

    Attributes:
        tasks: by name, the most significant digit of the joint code first.
    """

    tasks: Mapping[str, Task]

    @classmethod
    def load(cls, runs: Path, config: Path, box_margin: float | None = None, calibrated: bool = True) -> "Ensemble":
        """Load every head of the joint code in `config` from `runs`: each task's run, or all its folds.

        Args:
            runs: folder of the runs.
            config: joint.yaml; the tasks' YAML files are beside it.
            box_margin: of the boxes that images are cropped to, None for whole images; heads trained otherwise are
                warned about.
            calibrated: scale probabilities by the heads' temperatures; heads of version 0.1 have none.

        Raises:
            InputError: heads that are missing, damaged, or do not fit; all are named at once.
        """
        headline = f"{config}: heads do not fit the joint code"
        return cls(load_task_heads(runs, load_labels(config), box_margin, headline, calibrated))

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
        return {name: [head.checksum for head in task.heads] for name, task in self.tasks.items()}

    def predict(
        self,
        paths: Sequence[str | Path],
        thresholds: Mapping[str, float] | None = None,
        *,
        backend: Backend = torch_backend,
        batch_size: int = 64,
        workers: int = 0,
        read: Read | None = None,
        skip_bad: bool = False,
    ) -> Iterator[Predictions]:
        """Predict images, a batch at a time and in the order of `paths`.

        Args:
            paths: of the images.
            thresholds: by task, see `ensemble.inference.early_exit`; None passes every image in all views.
            backend: computes the heads.
            batch_size: images computed together.
            workers: decoding processes, which stay ahead of the heads.
            read: path -> RGB uint8 [H, W, 3]; None decodes JPEGs at the smallest scale that the heads need.
            skip_bad: predict equal probabilities for an image that cannot be decoded, and return its error.

        Raises:
            InputError: an image cannot be decoded.
        """
        predictor = Predictor(self.tasks, backend)
        on_gpu = predictor.device.type == "cuda"
        batches = load_batches(paths, predictor.pipelines, batch_size, workers, read, skip_bad, pin_memory=on_gpu)
        if thresholds is None:
            return map(predictor, batches)
        return predict_adaptive(predictor, batches, thresholds, batch_size, part_size(batch_size))


def load_task_heads(
    runs: Path,
    labels: Mapping[str, Label | None],
    box_margin: float | None = None,
    headline: str = "folds of one task do not fit together",
    calibrated: bool = True,
) -> dict[str, Task]:
    """Load every head of some tasks; arguments and errors are those of `Ensemble.load`.

    The heads of a task must have the classes and borders of its label, or of its first head where that is None;
    `headline` is that of the message on heads that do not.
    """
    tasks, problems = {}, []
    for name, files in find_checkpoints(runs, labels).items():
        heads = [load_verified_head(file) for file in files]
        expected = {key: attrgetter(key)(heads[0].config) for key in SHARED_KEYS}
        if (label := labels[name]) is not None:
            expected |= {"label.classes": label.classes, "label.borders": label.borders}
        for head in heads:
            for key, value in expected.items():
                if (found := attrgetter(key)(head.config)) != value:
                    problems.append(f"{head.file}: found the {key} {found}, expected {value}")
            if warning := crop_warning(head.box_margin, box_margin):
                print(f"{head.file}: {warning}", file=sys.stderr)
        print(f"{name}: {', '.join(map(str, files))}")
        tasks[name] = build_task(heads, calibrated)
    raise_all(headline, problems)
    return tasks


def load_verified_head(file: Path) -> TrainedHead:
    """Load a head and its checksum, held against its run's manifest."""
    checksum, note = verify_checksum(file)
    print(note, end="\n" if note else "", file=sys.stderr)
    return replace(load_head(file), checksum=checksum)


def find_checkpoints(runs: Path, tasks: Iterable[str]) -> dict[str, list[Path]]:
    """Find the checkpoints of each task: all its folds, or its one run; InputError for tasks that have none."""
    files = {task: [run.best for run in find_trained_runs(runs, task)] for task in tasks}
    for task, found in files.items():
        single = run_folder(runs, task).best
        if found and single not in found and single.is_file():
            reason = "left out, because there are folds beside it; move the folds away to use it"
            print(f"{single}: {reason}", file=sys.stderr)
    remedy = "expected one; train_task.py --task {0} makes it, --config FILE names other tasks"
    missing = [f"{task}: found no {task}/best.safetensors, {remedy.format(task)}" for task in tasks if not files[task]]
    raise_all(f"{runs}: heads are missing", missing)
    return files


def crop_warning(trained: float | None, used: float | None) -> str:
    """Describe how a head trained on faces cropped to boxes is used on something else; empty if it is not.

    Margins are those of --box-margin; None stands for whole images. A head trained on whole images gets no warning:
    they may frame their faces as boxes would.
    """
    if trained is None or trained == used:
        return ""
    images = "whole images" if used is None else f"a margin of {used:g}"
    return f"trained on faces cropped to boxes with a margin of {trained:g} (--boxes), used here on {images}"
