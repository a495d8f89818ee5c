"""docs/yaml.md lists every key, step and view with the defaults of the code, and no others."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from data.transforms.ops import STEPS
from data.transforms.views import VIEWS
from heads.config.task import TaskConfig

DOCUMENT = (Path(__file__).parents[3] / "docs" / "yaml.md").read_text(encoding="utf-8")
KEY = re.compile(r"^\| `([^`]+)` \| *(?:`([^`]+)` )?\|", re.MULTILINE)
CALL = re.compile(r"^\| `([a-z_]+)(: [^`]+)?` \|", re.MULTILINE)
REQUIRED = object()


def keys_in(annotation: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Every key of the sections in an annotation with its default; "[]" stands for the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            key = f"{above}.{name}".removeprefix(".")
            if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
                default = field.get_default(call_default_factory=True)
                yield key, REQUIRED if field.is_required() else default
            yield from keys_in(field.annotation, key)
    for argument in get_args(annotation):
        yield from keys_in(argument, above + "[]" * (get_origin(annotation) is list))


def test_every_key_is_listed_with_its_default() -> None:
    listed = {key: yaml.safe_load(default) if default else REQUIRED for key, default in KEY.findall(DOCUMENT)}
    assert listed == dict(keys_in(TaskConfig, ""))


@pytest.mark.parametrize(("heading", "table", "leading"), [("Steps for pixels", STEPS, 0), ("Views", VIEWS, 1)])
def test_every_step_is_listed_with_its_arguments(
    heading: str, table: dict[str, Callable[..., Any]], leading: int
) -> None:
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    listed = {name: yaml.safe_load(text[2:]) if text else {} for name, text in CALL.findall(section)}
    expected = {}
    for name, function in table.items():
        parameters = list(inspect.signature(function).parameters.values())[leading:]
        expected[name] = {p.name: None if p.default is p.empty else p.default for p in parameters}
    assert listed == expected
