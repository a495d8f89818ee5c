"""Change single steps of a head's `pixels` where they stand, without writing the others again."""

from collections.abc import Mapping, Sequence
from typing import Any

from data.runtime.errors import raise_all
from heads.config.task import Pixels


def replace_steps(pixels: Pixels, changes: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    """Make `pixels.train` and `pixels.evaluate` anew with the steps named in `changes` replaced.

    Args:
        changes: for a step's name its new arguments, or a list of steps in its place, or null to remove it.
        where: the place of `changes`, for errors.

    Raises:
        InputError: neither pipeline has a step of this name.
    """
    pipelines: dict[str, Sequence[Any]] = {"pixels.train": pixels.train, "pixels.evaluate": pixels.evaluate}
    known = {_step_name(step) for steps in pipelines.values() for step in steps}
    raise_all(
        f"{where}: unknown steps",
        [f"{name}: expected one of {', '.join(sorted(known))}" for name in changes if name not in known],
    )
    return {key: [new for step in steps for new in _replace_step(step, changes)] for key, steps in pipelines.items()}


def _replace_step(step: Any, changes: Mapping[str, Any]) -> list[Any]:
    """The steps that take the place of `step`.

    >>> [_replace_step("hflip", change) for change in ({}, {"hflip": None}, {"hflip": {"p": 0.1}})]
    [['hflip'], [], [{'hflip': {'p': 0.1}}]]
    """
    name = _step_name(step)
    change = changes.get(name, [step])
    if change is None:
        return []
    return change if isinstance(change, list) else [{name: change}]


def _step_name(step: Any) -> str:
    """The name of a step, which is a name or a name with arguments."""
    return step if isinstance(step, str) else next(iter(step))
