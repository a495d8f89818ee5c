"""joint.yaml: which heads, in which order, make the joint code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from data.runtime.errors import InputError
from heads.config.loader import Section, load_config
from heads.config.task import Label, TaskConfig

# Other names in metrics.json, probabilities.npz, the parts of a submission and its columns.
RESERVED = ("joint", "findings", "reason", "images", "ImageID", "ans")


class JointConfig(Section):
    """The joint code's tasks, the most significant digit first."""

    tasks: Annotated[list[str], Field(min_length=1)]


def load_joint(path: Path) -> JointConfig:
    """Read joint.yaml; InputError for a task named twice, an unknown key or a name of `RESERVED`."""
    config = load_config(JointConfig, path)
    if len(set(config.tasks)) != len(config.tasks):
        raise InputError(f"{path}: tasks {config.tasks} name one task twice")
    reserved = [task for task in config.tasks if task in RESERVED]
    if reserved:
        raise InputError(
            f"{path}: tasks: {', '.join(reserved)} has another meaning in the written files, expected a name "
            f"other than {', '.join(RESERVED)}; rename the task in its YAML and its folder of runs"
        )
    return config


def load_labels(path: Path) -> dict[str, Label]:
    """Read the labels of the joint code's tasks, the most significant first.

    They are in each task's YAML, `<task>.yaml` beside `path`; InputError for the YAML of another task.
    """
    labels = {}
    for task in load_joint(path).tasks:
        file = path.parent / f"{task}.yaml"
        config = load_config(TaskConfig, file)
        if config.task != task:
            raise InputError(f"{file}: task is {config.task!r}, expected {task!r} as in {path}")
        labels[task] = config.label
    return labels


def numeric_borders(labels: Mapping[str, Label]) -> dict[str, dict[str, list[float]]]:
    """Borders of the tasks that are cut from a column of numbers, by column and task.

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
    """Read the class names of the joint code's tasks, the most significant first (see `load_labels`)."""
    return {task: label.classes for task, label in load_labels(path).items()}
