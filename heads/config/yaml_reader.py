"""YAML as people mean it, with the line of every key, so that an error can point at it.

PyYAML follows YAML 1.1, where `no` is False, `1e-3` is text and a doubled key silently wins. Here only
`true` and `false` are booleans, `1e-3` is a number, and a doubled key is an error, as in YAML 1.2.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from data.runtime.errors import InputError

MOST_BYTES = 100_000  # PyYAML reads some 50 kB a second; the longest config here has 3 kB
Location = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's booleans and numbers, without aliases (they can explode) or doubled keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not read here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="found a key that is not text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} stands here twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_NUMBER_STARTS = list("-+.0123456789")
_BOOL = re.compile(r"^(?:true|false)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, _NUMBER_STARTS)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, _NUMBER_STARTS)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which either version of YAML would read as something else, such as 1e-3."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (the reader refuses them all)
        return True


_Dumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])
    + _Loader.yaml_implicit_resolvers.get(first, [])
    for first in yaml.SafeDumper.yaml_implicit_resolvers.keys() | _Loader.yaml_implicit_resolvers.keys()
}


def parse_yaml(text: str, name: str) -> tuple[Any, dict[Location, int]]:
    """Parse YAML `text`; return its value and the line (from 1) of each key and item by its location.

    Args:
        text: at most `MOST_BYTES` long.
        name: what error messages call it.

    Raises:
        InputError: not YAML, a doubled key, an alias, or too long.

    >>> value, lines = parse_yaml("lr: 1e-3\\nclasses: [no, yes]", "x.yaml")
    >>> value, lines[("classes",)]
    ({'lr': 0.001, 'classes': ['no', 'yes']}, 2)
    """
    if len(text) > MOST_BYTES:
        raise InputError(f"{name}: {len(text)} characters, expected at most {MOST_BYTES}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        value = loader.construct_document(node) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{name}:{line}: {error.problem}; expected YAML") from None
    # PyYAML lets the last of these through where a tag does not fit its text, as in `!!bool maybe`.
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        raise InputError(f"{name}: not readable as YAML: {str(error).splitlines()[0]}") from None
    lines: dict[Location, int] = {}
    _collect_lines(node, (), lines)
    return value, lines


def read_yaml(path: Path) -> tuple[Any, dict[Location, int]]:
    """Read and parse the YAML file at `path`; see `parse_yaml`."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(f"{path}: {size} bytes, expected at most {MOST_BYTES}")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, expected a YAML config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return parse_yaml(text, str(path))


def dump_yaml(value: Any) -> str:
    """YAML text, keys in their order, that `parse_yaml` reads back to the same value.

    >>> print(dump_yaml({"lr": 1e-3, "classes": ["no", "1e-3"]}), end="")
    lr: 0.001
    classes:
    - 'no'
    - '1e-3'
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _collect_lines(node: yaml.Node | None, at: Location, lines: dict[Location, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            lines[(*at, key.value)] = key.start_mark.line + 1
            _collect_lines(child, (*at, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*at, index)] = child.start_mark.line + 1
            _collect_lines(child, (*at, index), lines)
