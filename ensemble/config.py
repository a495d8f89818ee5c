"""joint.yaml: which heads, in which order, make the joint code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from data.runtime.errors import InputError
from heads.config.loader import Section, load_config
from heads.config.task import Label, TaskConfig

# What else metrics.json, probabilities.npz, the parts of a submission and its columns hold by name.
RESERVED = ("joint", "findings", "reason", "images", "ImageID", "ans")


class JointConfig(Section):
    """The joint code's tasks, the most significant digit first."""

    tasks: Annotated[list[str], Field(min_length=1)]


def load_joint(path: Path) -> JointConfig:
    """Read joint.yaml; a task named twice is refused, as are an unknown key and a name of `RESERVED`."""
    config = load_config(JointConfig, path)
    if len(set(config.tasks)) != len(config.tasks):
        raise InputError(f"{path}: tasks {config.tasks} name one task twice")
    taken = [task for task in config.tasks if task in RESERVED]
    if taken:
        raise InputError(
            f"{path}: tasks: {', '.join(taken)} stands for something else in what is written, expected a name "
            f"other than {', '.join(RESERVED)}; rename the task in its YAML and its folder of runs"
        )
    return config


def load_labels(path: Path) -> dict[str, Label]:
    """Task names of the joint code, most significant first, with their labels.

    They are read from each task's YAML, `<task>.yaml` beside `path`; one of another task is refused.
    """
    labels = {}
    for task in load_joint(path).tasks:
        its = path.parent / f"{task}.yaml"
        config = load_config(TaskConfig, its)
        if config.task != task:
            raise InputError(f"{its}: task is {config.task!r}, expected {task!r} as {path} says")
        labels[task] = config.label
    return labels


def numeric_borders(labels: Mapping[str, Label]) -> dict[str, dict[str, list[float]]]:
    """For each column of numbers that tasks are cut from, the borders of each such task.

    >>> age = Label(column="age", classes=["young", "old"], borders=[60])
    >>> mask = Label(column="mask", classes=["wear", "normal"])
    >>> numeric_borders({"mask": mask, "age": age, "vote": age.model_copy(update={"borders": [18]})})
    {'age': {'age': [60.0], 'vote': [18]}}
    """
    cuts: dict[str, dict[str, list[float]]] = {}
    for task, label in labels.items():
        if label.column and label.borders:
            cuts.setdefault(label.column, {})[task] = label.borders
    return cuts


def load_tasks(path: Path) -> dict[str, list[str]]:
    """Task names of the joint code, most significant first, with their class names (see `load_labels`)."""
    return {task: label.classes for task, label in load_labels(path).items()}
