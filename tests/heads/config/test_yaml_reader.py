"""YAML is read as people mean it, and an error says on which line."""

from pathlib import Path
from typing import Any

import pytest

from data.runtime.errors import InputError
from heads.config.yaml_reader import MOST_BYTES, dump_yaml, parse_yaml, read_yaml


def value_of(text: str) -> Any:
    return parse_yaml(text, "x.yaml")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("-2.5e-4", -2.5e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("''", ""),
    ],
)
def test_numbers_booleans_and_null_are_read_as_such(text: str, expected: Any) -> None:
    value = value_of(f"key: {text}")["key"]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "yes",
        "on",
        "off",
        "No",
        "True",
        "y",
        "010",
        "0x1F",
        "1_000",
        "12:30",
        "2024-01-31",
        "1e",
        "e5",
        ".",
    ]
    + ["<<", "=", ".inf", ".nan", "1.2.3", "-", "run:age", "30 to 59"],
)
def test_what_only_yaml_1_1_takes_for_something_else_is_text(text: str) -> None:
    if text == "-":
        text = "'-'"
    assert value_of(f"key: [{text}]") == {"key": [text.strip("'")]}


def test_a_doubled_key_is_refused_with_its_line() -> None:
    with pytest.raises(InputError, match=r"x\.yaml:4: key 'lr' stands here twice"):
        value_of("optimiser:\n  lr: 1\n  name: sgd\n  lr: 2\n")


def test_the_same_key_in_other_places_is_no_doubled_key() -> None:
    assert value_of("a: {p: 1}\nb: {p: 2}\np: 3") == {"a": {"p": 1}, "b": {"p": 2}, "p": 3}


def test_aliases_are_refused_with_their_line() -> None:
    with pytest.raises(InputError, match=r"x\.yaml:2: aliases are not read here"):
        value_of("a: &x [1, 2]\nb: *x\n")


def test_a_tab_is_refused_with_its_line() -> None:
    with pytest.raises(InputError, match=r"x\.yaml:3: .*'\\t'"):
        value_of("a: 1\nb:\n\tc: 2\n")


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: 1\n---\nb: 2",
        "a: !!python/object/apply:os.getcwd []",
        "a: !!bool maybe",
        "a: !!int many",
        "a: !!int ''",
        "a: !!timestamp soon",
        "a: !!binary ä",
        "[x, y]: 1",
        "{a: 1}: 1",
        "a: \x07",
        "[" * 3000,
        "9" * 5000,
    ],
)
def test_what_is_no_config_is_refused_without_a_traceback(text: str) -> None:
    with pytest.raises(InputError, match=r"^x\.yaml"):
        value_of(text)


def test_a_file_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputError, match="expected at most"):
        value_of("#" * (MOST_BYTES + 1))


def test_each_key_and_item_has_its_line() -> None:
    _, lines = parse_yaml("a: 1\nb:\n  c: 2\n  d:\n    - x\n    - e: 3\n", "x.yaml")
    assert lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "d"): 4,
        ("b", "d", 0): 5,
        ("b", "d", 1): 6,
        ("b", "d", 1, "e"): 6,
    }


def test_an_empty_file_has_no_keys() -> None:
    assert parse_yaml("# nothing yet\n", "x.yaml") == ({}, {})


def test_a_byte_order_mark_and_windows_line_ends_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: [no, 1e-3]\r\n")
    assert read_yaml(path) == ({"a": 1, "b": ["no", 1e-3]}, {("a",): 1, ("b",): 2, ("b", 0): 2, ("b", 1): 2})


def test_a_file_that_is_not_there_or_not_text_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("a: ä".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: cannot be read"):
        read_yaml(tmp_path / "latin.yaml")


def test_a_value_that_comes_twice_is_written_twice() -> None:
    steps = [{"resize": {"height": 8}}]
    value = {"train": steps, "evaluate": steps}
    assert value_of(dump_yaml(value)) == value
