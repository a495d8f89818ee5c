"""The joint code: one integer for a class of every task, in mixed radix; the first task is most significant.

joint.yaml names the tasks, in this order.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from data.runtime.errors import InputError, raise_all
from data.runtime.files import unsafe_reason
from heads.config.loader import Section, load_config
from heads.config.task import Label, TaskConfig

Digit = TypeVar("Digit", int, npt.NDArray[np.int64])
# Other names in metrics.json, probabilities.npz, what writes it, the parts of a submission and its columns.
RESERVED = ("joint", "findings", "reason", "images", "ImageID", "ans", "file", "allow_pickle")


class JointConfig(Section):
    """The joint code's tasks, the most significant digit first."""

    tasks: Annotated[list[str], Field(min_length=1)]


def load_joint(path: Path) -> JointConfig:
    """Read joint.yaml; InputError for tasks named twice, outside of the runs or in `RESERVED`, and unknown keys."""
    config = load_config(JointConfig, path)
    if len(set(config.tasks)) != len(config.tasks):
        raise InputError(f"{path}: tasks {config.tasks} name one task twice")
    check_task_names(path, config.tasks)
    return config


def check_task_names(path: Path, tasks: Sequence[str]) -> None:
    """Refuse names of `tasks`, which `path` gives, that cannot be folders of runs or are in `RESERVED`."""
    unsafe = [
        f"{task!r} {reason}"
        for task in tasks
        if (reason := unsafe_reason(task) or ("names a folder in a folder" if {"/", "\\"} & {*task} else ""))
    ]
    raise_all(f"{path}: tasks that cannot be folders of runs", unsafe)
    if reserved := [task for task in tasks if task in RESERVED]:
        raise InputError(
            f"{path}: tasks: {', '.join(reserved)} has another meaning in the written files, expected a name "
            f"other than {', '.join(RESERVED)}; rename the task in its YAML and its folder of runs"
        )


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


def encode(digits: Sequence[Digit], radices: Sequence[int]) -> Digit:
    """Encode the tasks' classes as joint codes 0..prod(radices)-1; the first task is the most significant digit.

    `digits` holds one entry per task in 0..radix-1: ints, or integer arrays of one shape, which give an int64 array
    of that shape. Raises ValueError that names the task's position if a digit is out of range or not an integer.

    >>> encode((2, 1, 0), (3, 2, 3))
    15
    >>> encode((np.array([0, 1]), np.array([1, 0]), np.array([2, 2])), (3, 2, 3)).tolist()
    [5, 8]
    """
    if len(digits) != len(radices):
        raise ValueError(f"{len(digits)} digits for {len(radices)} radices, expected one digit per task")
    _check_radices(radices)
    pairs = zip(digits, radices, strict=True)
    arrays = [_check_range(digit, radix, f"task {task}") for task, (digit, radix) in enumerate(pairs)]
    if len({array.shape for array in arrays}) > 1:  # numpy would broadcast [N, 1] against [N] to N x N codes
        raise ValueError(f"the tasks' digits differ in shape: {', '.join(str(each.shape) for each in arrays)}")
    codes: Digit = _int_or_array(np.ravel_multi_index(arrays, tuple(radices)))
    return codes


def decode(codes: Digit, radices: Sequence[int]) -> tuple[Digit, ...]:
    """Decode joint codes into the tasks' classes: the inverse of `encode`, with the same types and errors.

    >>> decode(15, (3, 2, 3))
    (2, 1, 0)
    """
    _check_radices(radices)
    array = _check_range(codes, prod(radices), "joint code")
    return tuple(map(_int_or_array, np.unravel_index(array, tuple(radices))))


def class_names(tasks: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the joint classes in the code's order; `tasks` has the most significant task first.

    >>> class_names({"mask": ["wear", "normal"], "gender": ["male", "female"]})
    ['wear / male', 'wear / female', 'normal / male', 'normal / female']
    """
    return [" / ".join(names) for names in product(*tasks.values())]


def argmax(probabilities: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.int64]:
    """Joint codes [N] of each task's most probable class, from the tasks' probabilities [N, C].

    It is the most probable joint class too: the largest product has the largest factors.

    >>> argmax([np.array([[0.2, 0.8]]), np.array([[0.5, 0.1, 0.4]])]).tolist()
    [3]
    """
    return encode([task.argmax(axis=1) for task in probabilities], [task.shape[1] for task in probabilities])


def joint_probabilities(probabilities: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float64]:
    """Probabilities [N, prod C] of the joint classes from the tasks' [N, C], taken to be independent.

    Computed in float64, so that for float32 heads no rounding can change which class comes first: the
    argmax is the code of the heads' argmaxes. Raises ValueError if an input is not [N, C] or N differs.
    """
    shapes = [np.shape(each) for each in probabilities]
    if not shapes or any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(f"expected one array [N, C] per task with the same N, found shapes {shapes}")
    joint = np.ones((shapes[0][0], 1))
    for each in probabilities:
        joint = (joint[:, :, None] * each[:, None, :].astype(np.float64)).reshape(len(joint), -1)
    return joint


def _check_radices(radices: Sequence[int]) -> None:
    if not radices or min(radices) < 1:
        raise ValueError(f"radices {list(radices)}, expected at least one class of at least one task")


def _check_range(values: Any, radix: int, name: str) -> npt.NDArray[np.int64]:
    """Return `values` as an int64 array, or raise ValueError unless all are integers in 0..radix-1."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: found {array.dtype} such as {array.ravel()[:1].tolist()}, expected integers")
    wrong = array[(array < 0) | (array >= radix)]
    if wrong.size:
        more = f" (and {wrong.size - 1} more)" if wrong.size > 1 else ""
        raise ValueError(f"{name}: {wrong[0]} is out of range{more}, expected 0..{radix - 1}")
    return array.astype(np.int64)


def _int_or_array(values: Any) -> Any:
    return int(values) if np.ndim(values) == 0 else values
