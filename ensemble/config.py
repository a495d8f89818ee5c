"""joint.yaml: which heads, in which order, make the joint code."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from data.errors import InputError
from heads.config import TaskConfig
from heads.schema import Section, load


class JointConfig(Section):
    """The joint code's tasks, the most significant digit first."""

    tasks: Annotated[list[str], Field(min_length=1)]


def load_joint(path: Path) -> JointConfig:
    """Read joint.yaml; a task named twice is refused, as is an unknown key."""
    config = load(JointConfig, path)
    if len(set(config.tasks)) != len(config.tasks):
        raise InputError(f"{path}: tasks {config.tasks} name one task twice")
    return config


def tasks_of(path: Path) -> dict[str, list[str]]:
    """Task names of the joint code, most significant first, with their class names.

    The classes are read from each task's YAML, `<task>.yaml` beside `path`; one of another task is refused.
    """
    tasks = {}
    for task in load_joint(path).tasks:
        its = path.parent / f"{task}.yaml"
        config = load(TaskConfig, its)
        if config.task != task:
            raise InputError(f"{its}: task is {config.task!r}, expected {task!r} as {path} says")
        tasks[task] = config.label.classes
    return tasks
