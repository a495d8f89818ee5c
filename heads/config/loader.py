"""Read a YAML file into any pydantic schema; report all errors at once, each with its line and the nearest key.

PyYAML follows YAML 1.1, where `no` is False, `1e-3` is text and a doubled key silently wins. Here only
`true` and `false` are booleans, `1e-3` is a number, and a doubled key is an error, as in YAML 1.2.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from data.runtime.errors import InputError, nearest, raise_all

MAX_BYTES = 100_000  # PyYAML reads some 50 kB a second; the longest config here has 3 kB
Location = tuple[str | int, ...]


class Section(BaseModel):
    """A part of a config: unknown keys are refused, types are not converted, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    # Keys ("section.key") and values ("section.key=value") of earlier versions, with why they were removed.
    retired: ClassVar[Mapping[str, str]] = {}


S = TypeVar("S", bound=Section)
Positive = Annotated[float, Field(gt=0)]


def load_config(schema: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read the YAML at `path`, apply `overrides` (`key.sub=value`) and check the result against `schema`.

    Raises:
        InputError: every unknown key, wrong type and bad value at once, with file, line and key.
    """
    value, lines = read_yaml(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: found a {type(value).__name__}, expected keys with values")
    places = {location: f"{path}:{line}" for location, line in lines.items()}
    for text in overrides:
        _apply_override(value, text, places)
    return check_config(schema, _drop_retired(schema, value, only_unset=True), str(path), places)


def check_config(
    schema: type[S], value: Any, name: str, places: Mapping[Location, str] | None = None, stored: bool = False
) -> S:
    """Check `value` against `schema`; errors give the place of a key from `places`, else `name`.

    `stored` accepts what earlier versions trained with (`is_stored`).
    """
    try:
        return schema.model_validate(value, context={"stored": stored})
    except ValidationError as error:
        problems = list(_problems(schema, error, name, places or {}))
    raise_all(f"{name}: {len(problems)} problem{'s' * (len(problems) > 1)} in the config", problems)
    raise AssertionError("a validation error without a problem")


def read_stored_config(schema: type[S], value: Any, name: str) -> S:
    """Check the config of a checkpoint: retired keys are dropped, sections with a retired value become null."""
    return check_config(schema, _drop_retired(schema, value), name, stored=True)


def is_stored(info: ValidationInfo) -> bool:
    """Whether a validator checks the config of a checkpoint, not that of a new run."""
    return bool(info.context and info.context["stored"])


def _drop_retired(schema: type[Section], value: Any, only_unset: bool = False) -> Any:
    """Copy `value` without its retired keys and values; with `only_unset`, without retired keys that hold nothing."""
    value = copy.deepcopy(value)
    for path in schema.retired:
        *parents, last = path.split(".")
        key, _, retired_value = last.partition("=")
        holder, section = None, value
        for parent in parents:
            holder, section = section, section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict) and not retired_value and (not only_unset or _is_unset(section.get(key))):
            section.pop(key, None)
        elif not only_unset and isinstance(section, dict) and holder and section.get(key) == retired_value:
            holder[parents[-1]] = None
    return value


def _is_unset(value: Any) -> bool:
    """Whether a retired key is written out without effect, as in a run's resolved config.yaml."""
    return all(map(_is_unset, value.values())) if isinstance(value, dict) else value in (None, [])


def _apply_override(value: dict[str, Any], text: str, places: dict[Location, str]) -> None:
    """Apply one `key.sub=value` to the nested `value` and to `places`."""
    key, equals, written = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set {text}: expected key.sub=value, for example --set training.epochs=3")
    location = tuple(key.strip().split("."))
    section: Any = value
    for depth, parent in enumerate(location[:-1], start=1):
        if section.get(parent) is None:  # a section that is written as null gets keys all the same
            section[parent] = {}
        if not isinstance(section[parent], dict):
            raise InputError(f"--set {text}: {'.'.join(location[:depth])} holds no keys")
        section = section[parent]
        places.setdefault(location[:depth], "--set")
    section[location[-1]] = parse_yaml(written, f"--set {text}")[0] if written.strip() else ""
    for replaced in [known for known in places if known[: len(location)] == location]:
        del places[replaced]
    places[location] = "--set"


def _problems(
    schema: type[Section], error: ValidationError, name: str, places: Mapping[Location, str]
) -> Iterator[str]:
    known = {part for location in places for part in location}
    for item in error.errors(include_url=False):
        # pydantic adds the union's member to the location; only what stands in the file helps a user.
        location = tuple(part for part in item["loc"] if part in known)
        key, message = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
        if not location:  # sections that contradict each other: the message starts with a key
            location = tuple(re.split(r"[^\w.]", message, maxsplit=1)[0].split("."))
        prefixes = (location[:length] for length in range(len(location), 0, -1))
        place = next((places[prefix] for prefix in prefixes if prefix in places), name)
        found = f"{key}={item['input']}"
        if key in schema.retired or found in schema.retired:
            removed = key if key in schema.retired else found
            yield f"{place}: {removed}: removed in 0.2: {schema.retired[removed]}"
        elif item["type"] == "extra_forbidden":
            yield f"{place}: {key}: unknown key{_advice(item['loc'], schema)}"
        elif item["type"] == "missing":
            yield f"{place}: {key}: missing, expected a value"
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            # The message of a section that contradicts itself names the values; the section is not printed.
            yield ": ".join(filter(None, (place, key, message)))
        else:
            yield f"{place}: {key}={item['input']!r}: {message}"


def _advice(location: Location, schema: type[Section]) -> str:
    """The nearest key to the unknown one at `location`: one of its section, else another by its path."""
    keys = list(_all_keys(schema))
    known = {part for key in keys for part in key}  # without indices and pydantic's names of union members
    section, name = tuple(part for part in location[:-1] if part in known), str(location[-1])
    paths = {key[-1]: ".".join(key) for key in reversed(keys)}
    beside = nearest(name, [key[-1] for key in keys if key[:-1] == section])
    meant = beside or paths.get(nearest(name, paths) or "")
    return f", did you mean {meant}?" if meant else ""


def _all_keys(annotation: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all keys of the sections in an annotation, indices of lists left out."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield (*above, name)
            yield from _all_keys(field.annotation, (*above, name))
    for argument in getattr(annotation, "__args__", ()):
        yield from _all_keys(argument, above)


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's booleans and numbers, without aliases (they can explode) or doubled keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="found an alias, which is not supported", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="found a key that is not text", problem_mark=key.start_mark)
            if key.value in keys:
                raise yaml.MarkedYAMLError(problem=f"found the key {key.value!r} twice", problem_mark=key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _starts in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+.0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_starts))


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which either version of YAML would read as something else, such as 1e-3."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (the reader refuses them all)
        return True


_Dumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + _Loader.yaml_implicit_resolvers.get(first, [])
    for first in yaml.SafeDumper.yaml_implicit_resolvers.keys() | _Loader.yaml_implicit_resolvers.keys()
}


def read_yaml(path: Path) -> tuple[Any, dict[Location, int]]:
    """Read and parse a YAML file as `parse_yaml` does."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size} bytes, expected at most {MAX_BYTES}")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, expected a YAML config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> tuple[Any, dict[Location, int]]:
    """Parse YAML `text`, called `name` in errors; return its value and the line (from 1) of each key and item.

    Raises:
        InputError: not YAML, a doubled key, or an alias.

    >>> value, lines = parse_yaml("lr: 1e-3\\nclasses: [no, yes]", "x.yaml")
    >>> value, lines[("classes",)]
    ({'lr': 0.001, 'classes': ['no', 'yes']}, 2)
    """
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
    return value, dict(_lines(node, ()))


def dump_yaml(value: Any) -> str:
    """YAML text, keys in their order, that `parse_yaml` reads back to the same value.

    >>> print(dump_yaml({"lr": 1e-3, "classes": ["no", "1e-3"]}), end="")
    lr: 0.001
    classes:
    - 'no'
    - '1e-3'
    """
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def _lines(node: yaml.Node | None, above: Location) -> Iterator[tuple[Location, int]]:
    children: list[tuple[str | int, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(key.value, key, child) for key, child in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, child, child) for index, child in enumerate(node.value)]
    for part, marked, child in children:
        yield (*above, part), marked.start_mark.line + 1
        yield from _lines(child, (*above, part))
