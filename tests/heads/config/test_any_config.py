"""Any config at all is read, or refused with its file and key."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.runtime.errors import InputError
from heads.config.loader import check_config, load_config
from heads.config.task import TaskConfig
from heads.config.yaml_reader import dump_yaml

ROOT = Path(__file__).parents[3]
SHIPPED = [
    load_config(TaskConfig, path).model_dump() for path in sorted((ROOT / "configs").glob("[agm]*.yaml"))
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["no", "1e-3"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value stands in nested mappings and lists, every section and item included."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*at, key))
    return found


def changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = changed(value[at[0]], at[1:], new)
    return copy


@settings(max_examples=200, deadline=None)
@given(shipped=st.sampled_from(SHIPPED), data=st.data(), new=VALUES)
def test_a_shipped_config_with_anything_anywhere_is_read_or_refused(
    shipped: dict[str, Any], data: st.DataObject, new: Any
) -> None:
    at = data.draw(st.sampled_from(places(shipped)))
    try:
        config = check_config(TaskConfig, changed(shipped, at, new), "x.yaml")
    except InputError as error:
        assert str(error).startswith("x.yaml")  # noqa: PT017 (an error is one of two right answers)
    else:
        assert check_config(TaskConfig, config.model_dump(), "again") == config


@settings(max_examples=100, deadline=None)
@given(value=st.dictionaries(st.sampled_from(list(SHIPPED[0])) | st.text(max_size=6), VALUES, max_size=5))
def test_any_yaml_is_read_or_refused(value: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(dump_yaml(value), encoding="utf-8", errors="replace")
    with pytest.raises(InputError, match=r"any\.yaml"):  # none of these has all that a config needs
        load_config(TaskConfig, path)


@settings(max_examples=100, deadline=None)
@given(key=st.text(max_size=12), value=st.text(max_size=12))
def test_any_override_is_laid_over_or_refused(key: str, value: str) -> None:
    try:
        load_config(TaskConfig, ROOT / "configs" / "mask.yaml", [f"{key}={value}"])
    except InputError as error:
        assert str(error)  # noqa: PT017 (an error is one of two right answers)
