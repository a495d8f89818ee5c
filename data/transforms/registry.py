"""Steps that a YAML lists by name, `[hflip, {resize: {height: 9, width: 9}}]`, built from a table."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from data.runtime.errors import did_you_mean

CHECK = validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))

Step = str | Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True)
class BuiltOp:
    """A step's name, its arguments and the result of its function."""

    name: str
    arguments: Mapping[str, Any]
    result: Any

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.arguments.items())})"


def build_ops(steps: Sequence[Step], table: Mapping[str, Callable[..., Any]], *leading: Any) -> list[BuiltOp]:
    """Call each step's function with `leading` and the step's own arguments, checked against its annotations.

    Raises:
        ValueError: unknown names or wrong arguments; the message lists all, with what is expected.

    >>> def times(value: int, factor: int = 2) -> int:
    ...     return value * factor
    >>> steps = build_ops(["times", {"times": {"factor": 5}}], {"times": times}, 3)
    >>> [(str(step), step.result) for step in steps]
    [('times', 6), ('times(factor=5)', 15)]
    """
    ops, problems = [], []
    for index, step in enumerate(steps, start=1):
        name, arguments = _split(step)
        if name not in table:
            near = did_you_mean(name, table) or ","
            problems.append(f"step {index}: {name!r} is unknown{near} expected one of {', '.join(table)}")
            continue
        try:
            ops.append(BuiltOp(name, arguments, CHECK(table[name])(*leading, **arguments)))
        except ValidationError as error:
            accepted = list(inspect.signature(table[name]).parameters)[len(leading) :]
            takes = f"{name} takes {', '.join(accepted) or 'no arguments'}"
            for item in error.errors(include_url=False):
                key = ".".join(map(str, item["loc"]))
                problems.append(f"step {index} ({name}): {key}: {item['msg']}; {takes}")
    if problems:
        raise ValueError("; ".join(problems))
    return ops


def _split(step: Step) -> tuple[str, Mapping[str, Any]]:
    if isinstance(step, str):
        return step, {}
    if len(step) != 1:
        return " + ".join(step), {}
    [(name, arguments)] = step.items()
    return name, arguments or {}
