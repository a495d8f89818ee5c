"""Any pydantic schema over a YAML file: all errors told at once, each with its line and the nearest key."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.runtime.errors import InputError, did_you_mean, nearest, raise_all
from heads.config.yaml_reader import Location, parse_yaml, read_yaml


class Section(BaseModel):
    """A part of a config: unknown keys are refused, types are not guessed, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)
Positive = Annotated[float, Field(gt=0)]


def load_config(schema: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read the YAML at `path`, lay `overrides` (`key.sub=value`) over it and check_config it against `schema`.

    Raises:
        InputError: every unknown key, wrong type and bad value at once, with file, line and key.
    """
    value, lines = read_yaml(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: found a {type(value).__name__}, expected keys with values")
    overridden = [_override(value, text) for text in overrides]
    return check_config(schema, value, str(path), lines, overridden)


def check_config(
    schema: type[S],
    value: Any,
    name: str,
    lines: dict[Location, int] | None = None,
    overridden: Sequence[Location] = (),
) -> S:
    """Check `value` against `schema`; errors call it `name` and give the line where `lines` knows it."""
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        problems = list(_problems(schema, error, name, lines or {}, overridden))
    raise_all(f"{name}: {len(problems)} problem{'s' * (len(problems) > 1)} in the config", problems)
    raise AssertionError("a validation error without a problem")


def _override(value: dict[str, Any], text: str) -> Location:
    """Lay one `key.sub=value` over the nested `value`; return where it went."""
    key, equals, written = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set {text}: expected key.sub=value, for example --set training.epochs=3")
    *parents, last = key.strip().split(".")
    place: Any = value
    for depth, parent in enumerate(parents):
        if place.get(parent) is None:  # a section that is written as null has its keys all the same
            place[parent] = {}
        if not isinstance(place[parent], dict):
            raise InputError(f"--set {text}: {'.'.join(parents[: depth + 1])} holds no keys")
        place = place[parent]
    place[last] = parse_yaml(written, f"--set {text}")[0] if written.strip() else ""
    return (*parents, last)


def _problems(
    schema: type[Section],
    error: ValidationError,
    name: str,
    lines: dict[Location, int],
    overridden: Sequence[Location],
) -> Iterator[str]:
    keys = list(dict.fromkeys(_all_keys(schema)))
    for item in error.errors(include_url=False):
        # pydantic adds the union's member to the location; only what stands in the file helps a user.
        location = tuple(part for part in item["loc"] if _is_in(lines, overridden, part))
        place = name
        for length in range(len(location), 0, -1):
            if location[:length] in overridden:
                place = "--set"
                break
            if location[:length] in lines:
                place = f"{name}:{lines[location[:length]]}"
                break
            if any(location[:length] == over[:length] for over in overridden):
                place = "--set"  # a section that only an override made
                break
        key = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            yield f"{place}: {key}: unknown key{_advice(item['loc'], keys)}"
        elif item["type"] == "missing":
            yield f"{place}: {key}: missing, expected a value"
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            # A section that contradicts itself names its values in the message; here it stands whole.
            yield ": ".join(filter(None, (place, key, item["msg"].removeprefix("Value error, "))))
        else:
            yield f"{place}: {key}={item['input']!r}: {item['msg'].removeprefix('Value error, ')}"


def _is_in(lines: dict[Location, int], overridden: Sequence[Location], part: str | int) -> bool:
    return any(part in location for location in lines) or any(part in location for location in overridden)


def _advice(location: Location, keys: Sequence[tuple[str, ...]]) -> str:
    """Which key may be meant by the one at `location`: one of its section, else of another, by its path.

    Of the location, places in lists and pydantic's names for members of a union are no keys.
    """
    known = {part for key in keys for part in key}
    section, name = [part for part in location[:-1] if part in known], str(location[-1])
    beside = did_you_mean(name, [key[-1] for key in keys if list(key[:-1]) == section])
    elsewhere = {key[-1]: key for key in reversed(keys)}
    near = nearest(name, elsewhere)
    return beside or ("" if near is None else f", did you mean {'.'.join(elsewhere[near])}?")


def _all_keys(schema: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all keys that the schema knows, places in lists left out."""
    for name, field in schema.model_fields.items():
        yield (*above, name)
        for nested in _sections_in(field.annotation):
            yield from _all_keys(nested, (*above, name))


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _sections_in(argument)
