"""docs/yaml.md names every key, step and view with the defaults that the code has, and no others."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from data.transforms.ops import STEPS
from ensemble.inference.views import VIEWS
from heads.config.task import TaskConfig

DOCUMENT = (Path(__file__).parents[3] / "docs" / "yaml.md").read_text(encoding="utf-8")
KEY = re.compile(r"^\| `([^`]+)` \| *(?:`([^`]+)` )?\|", re.MULTILINE)
CALL = re.compile(r"^\| `([a-z_]+)(: [^`]+)?` \|", re.MULTILINE)
NOTHING = object()


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def sections_in(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The sections that a key may hold, each with "[]" before its keys where it is one of a list."""
    if is_section(annotation):
        yield ".", annotation
    elif get_origin(annotation) is Annotated:
        yield from sections_in(get_args(annotation)[0])
    elif get_origin(annotation) is list:
        yield from ((f"[]{inner}", section) for inner, section in sections_in(get_args(annotation)[0]))
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from sections_in(part)


def keys_of(section: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that is no mere heading, with its default (NOTHING where it must be given)."""
    for name, field in section.model_fields.items():
        if not is_section(field.annotation):
            yield (
                above + name,
                NOTHING if field.is_required() else field.get_default(call_default_factory=True),
            )
        for inner, nested in sections_in(field.annotation):
            yield from keys_of(nested, above + name + inner)


def test_every_key_stands_there_with_its_default() -> None:
    told = {key: yaml.safe_load(default) if default else NOTHING for key, default in KEY.findall(DOCUMENT)}
    assert told == dict(keys_of(TaskConfig))


def arguments_of(function: Callable[..., Any], leading: int) -> dict[str, Any]:
    parameters = list(inspect.signature(function).parameters.values())[leading:]
    return {each.name: None if each.default is each.empty else each.default for each in parameters}


@pytest.mark.parametrize(
    ("heading", "table", "leading"),
    [("Steps for pixels", STEPS, 0), ("Views", VIEWS, 1)],
    ids=["steps", "views"],
)
def test_every_step_stands_there_with_its_arguments(
    heading: str, table: dict[str, Callable[..., Any]], leading: int
) -> None:
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    told = {
        name: yaml.safe_load(arguments[2:]) if arguments else {} for name, arguments in CALL.findall(section)
    }
    assert told == {name: arguments_of(function, leading) for name, function in table.items()}
