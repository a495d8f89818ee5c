"""Load trained heads from a folder of runs: which tasks, which checkpoints, and whether they fit together."""

import sys
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path

from data.runtime.errors import InputError, raise_all
from ensemble.inference.predictor import Task, build_task
from ensemble.joint import check_task_names, load_joint, load_labels
from ensemble.options import JOINT_YAML
from heads.config.loader import read_stored_config
from heads.config.task import Label, TaskConfig
from heads.load import load_verified_head
from heads.run.checkpoint import read_description
from heads.run.folder import find_trained_runs, run_folder, source_run_name

JOINT_FILE = "joint.yaml"  # in a folder of runs
# Settings in which the folds of a task must agree, since their probabilities are averaged.
SHARED_KEYS = (
    *("label.classes", "label.borders", "label.column", "label.parts", "label.distribution", "label.ordinal"),
    *("pixels.evaluate", "views.steps", "views.further", "views.merge"),
)


def load_tasks(runs: Path, config: Path | None = None, box_margin: float | None = None) -> dict[str, Task]:
    """Load every head of the joint code from `runs`; see `select_labels` and `load_task_heads`."""
    labels = select_labels(runs, config)
    return load_task_heads(runs, labels, box_margin, f"{config or runs}: heads do not fit the joint code")


def select_labels(runs: Path, config: Path | None) -> dict[str, Label | None]:
    """Select the tasks of the joint code, the most significant first; None: the label is that of the task's heads.

    Without `config` they are those of `runs`/joint.yaml; else those of this program's configs/joint.yaml, if `runs`
    has a head of any of them; else all heads by name, without those that other heads start from, which is printed.
    """
    if config is not None:
        return dict(load_labels(config))
    for file in (runs / JOINT_FILE, JOINT_YAML):
        if file.is_file():
            tasks = load_joint(file).tasks
            if file != JOINT_YAML or any(find_trained_runs(runs, task) for task in tasks):
                return dict.fromkeys(tasks)
    if not runs.is_dir():
        raise InputError(f"{runs}: no such folder, expected the runs of train_task.py")
    found = {path.name: find_trained_runs(runs, path.name) for path in sorted(runs.iterdir())}
    heads = {task: each[0].best for task, each in found.items() if each}
    if not heads:
        raise InputError(f"{runs}: heads are missing: found no TASK/best.safetensors; train_task.py makes them")
    sources = {source_run_name(_read_config(head).backbone.weights) for head in heads.values()}
    tasks = [task for task in heads if task not in sources]
    check_task_names(runs, tasks)
    print(f"{runs}: found no {JOINT_FILE}, so the joint code is of {', '.join(tasks)} in this order", file=sys.stderr)
    return dict.fromkeys(tasks)


def read_labels(runs: Path, config: Path | None = None) -> dict[str, Label]:
    """Read the labels of `select_labels`, those of heads from their checkpoints, which are not loaded."""
    labels = select_labels(runs, config)
    files = find_checkpoints(runs, [task for task, label in labels.items() if label is None])
    return {task: label or _read_config(files[task][0]).label for task, label in labels.items()}


def _read_config(checkpoint: Path) -> TaskConfig:
    return read_stored_config(TaskConfig, read_description(checkpoint).get("config"), str(checkpoint))


def load_task_heads(
    runs: Path,
    labels: Mapping[str, Label | None],
    box_margin: float | None = None,
    headline: str = "heads of one task do not fit together",
) -> dict[str, Task]:
    """Load every head of some tasks: each task's run, or all its folds.

    Args:
        runs: folder of the runs.
        labels: by task; its heads must have the classes and borders of its label, or of its first head where that is
            None.
        box_margin: of the boxes that images are cropped to, None for whole images; heads trained otherwise are
            warned about.
        headline: of the message on heads that do not fit.

    Raises:
        InputError: heads that are missing, damaged, or do not fit; all are named at once.
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
        tasks[name] = build_task(heads, calibrated=True)
    raise_all(headline, problems)
    return tasks


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
