"""YAML is read as YAML 1.2; errors of a config are reported all at once, each with file, line and key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from data.runtime.errors import InputError
from heads.config.loader import MAX_BYTES, Section, dump_yaml, load_config, parse_yaml, read_stored_config, read_yaml


class Optimiser(Section):
    name: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3


class Term(Section):
    name: str
    factor: float = 1.0


class Example(Section):
    retired: ClassVar[Mapping[str, str]] = {"optimiser.beta": "fixed", "optimiser.name=adam": "use adamw"}

    task: str
    epochs: Annotated[int, Field(ge=1)]
    shuffle: bool = True
    classes: list[str] = Field(default_factory=list)
    terms: list[Term] = Field(default_factory=list)
    weights: Optimiser | None = None
    optimiser: Optimiser | None = Optimiser()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text("task: age\nepochs: 3\noptimiser:\n  lr: 1e-3\n", encoding="utf-8")
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as raised:
        load_config(Example, path, overrides)
    return str(raised.value).replace(str(path), "x.yaml")


def test_all_problems_are_reported_at_once(path: Path) -> None:
    text = "taskk: age\nepochs: 0\noptimiser:\n  name: adam\n  lr: no\n  beta: 1\n"
    path.write_text(text + "terms:\n  - {name: a}\n  - {factor: x}\nweights:\n  name: sgd\n  lr: -1\n")
    assert message(path).splitlines() == [
        "x.yaml: 9 problems in the config",
        "  x.yaml: task: missing, expected a value",
        "  x.yaml:2: epochs=0: Input should be greater than or equal to 1",
        "  x.yaml:9: terms.1.name: missing, expected a value",
        "  x.yaml:9: terms.1.factor='x': Input should be a valid number",
        "  x.yaml:12: weights.lr=-1: Input should be greater than 0",
        "  x.yaml:4: optimiser.name=adam: removed in 0.2: use adamw",
        "  x.yaml:5: optimiser.lr='no': Input should be a valid number",
        "  x.yaml:6: optimiser.beta: removed in 0.2: fixed",
        "  x.yaml:1: taskk: unknown key, did you mean task?",
    ]


@pytest.mark.parametrize(
    ("key", "written"),
    [
        *(("epochs", written) for written in ("'3'", "3.0", "true", "null", "[3]")),
        *(("task", "3"), ("task", "true"), ("shuffle", "yes"), ("shuffle", "1"), ("classes", "wear")),
        *(("optimiser.lr", written) for written in ("true", "'1e-3'", "1e999", "!!float .nan")),
        ("optimiser", "adamw"),
    ],
)
def test_types_are_not_converted(path: Path, key: str, written: str) -> None:
    assert f"--set: {key}=" in message(path, f"{key}={written}")


def test_overrides_replace_what_the_file_says(path: Path) -> None:
    overrides = ["epochs=5", "optimiser.lr=1", "optimiser.name=sgd", "classes=[no, yes]", "shuffle=false"]
    config = load_config(Example, path, [*overrides, "terms=[{name: a=b, factor: 2}]", "epochs=7"])
    lists = {"classes": ["no", "yes"], "terms": [Term(name="a=b", factor=2.0)]}
    assert config == Example(task="age", epochs=7, shuffle=False, optimiser=Optimiser(name="sgd", lr=1.0), **lists)
    for section in ("", "optimiser: null\n"):
        path.write_text(f"task: age\nepochs: 3\n{section}", encoding="utf-8")
        assert load_config(Example, path, ["optimiser.lr=0.5"]).optimiser == Optimiser(lr=0.5)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimiser.lrr=1", "--set: optimiser.lrr: unknown key, did you mean lr?"),
        ("opt.lr=1", "--set: opt: unknown key"),
        ("optimiser.epochs=1", "--set: optimiser.epochs: unknown key, did you mean epochs?"),
        ("optimiser.factor=1", "--set: optimiser.factor: unknown key, did you mean terms.factor?"),
        ("epochs", "--set epochs: expected key.sub=value"),
        ("=3", "--set =3: expected key.sub=value"),
        ("task.name=3", "--set task.name=3: task holds no keys"),
        ("epochs=[1", "--set epochs=[1:1: "),
        ("terms=[{nme: a, name: b}]", "--set: terms.0.nme: unknown key, did you mean name?"),
    ],
)
def test_a_wrong_override_is_named(path: Path, override: str, expected: str) -> None:
    assert expected in message(path, override)


def test_a_stored_config_loads_without_its_retired_keys(path: Path) -> None:
    stored = {"task": "age", "epochs": 3, "optimiser": {"lr": 0.5, "beta": [1]}}
    assert read_stored_config(Example, stored, "best").optimiser == Optimiser(lr=0.5)
    assert stored["optimiser"] == {"lr": 0.5, "beta": [1]}
    stored["optimiser"] = {"name": "adam", "beta": 2}
    assert read_stored_config(Example, stored, "best").optimiser is None
    path.write_text("task: age\nepochs: 3\nweights: {lr: 0.5}\noptimiser: {beta: {low: null, high: []}}\n")
    assert load_config(Example, path).optimiser == Optimiser()
    for odd in ({**stored, "colour": 1}, {**stored, "optimiser": 3}, [], 3):
        with pytest.raises(InputError, match=r"^best: 1 problem"):
            read_stored_config(Example, odd, "best")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("1e-3", 1e-3), ("1E3", 1000.0), ("-2.5e-4", -2.5e-4), ("1.", 1.0), (".5", 0.5)),
        *(("0", 0), ("-12", -12), ("+3", 3), ("true", True), ("false", False)),
        *(("null", None), ("~", None), ("''", "")),
        # Text in YAML 1.2; something else in 1.1.
        *((text, text) for text in ("no", "yes", "on", "off", "No", "True", "y", "010", "0x1F", "1_000")),
        *((text, text) for text in ("12:30", "2024-01-31", "1e", "e5", ".", "<<", "=", ".inf", ".nan")),
        *((text, text) for text in ("1.2.3", "run:age", "30 to 59")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, expected: Any) -> None:
    value = parse_yaml(f"key: [{text}]", "x.yaml")[0]["key"][0]
    assert (value, type(value)) == (expected, type(expected))
    twice = [[expected]] * 2  # is written without an alias
    assert parse_yaml(dump_yaml({"key": twice}), "x.yaml")[0] == {"key": twice}


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])) | st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_number_reads_back(value: str | float) -> None:
    assert parse_yaml(dump_yaml({"key": [value]}), "x.yaml")[0] == {"key": [value]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("optimiser:\n  lr: 1\n  name: sgd\n  lr: 2\n", r":4: found the key 'lr' twice"),
        ("a: &x [1, 2]\nb: *x\n", ":2: found an alias"),
        ("a: 1\nb:\n\tc: 2\n", r":3: .*'\\t'"),
        *((f"a: 1\n{key}: 1", ":2: found a key that is not text") for key in ("1", "null", "true")),
        *((f"a: {value}", "") for value in ("[1, 2", "!!python/object/apply:os.getcwd []", "\x07")),
        *((f"a: !!{tag}", "") for tag in ("bool maybe", "int many", "int ''", "timestamp soon", "binary ä")),
        *((text, "") for text in ("a: 1\n---\nb: 2", "[x, y]: 1", "{a: 1}: 1", "[" * 3000, "9" * 5000)),
    ],
)
def test_other_text_is_refused_with_its_line(text: str, line: str) -> None:
    with pytest.raises(InputError, match=rf"^x\.yaml{line}"):
        parse_yaml(text, "x.yaml")


def test_each_key_and_item_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: {p: 1}\r\nb:\r\n  p: 2\r\n  d:\r\n    - x\r\n    - e: 3\r\n")
    value, lines = read_yaml(tmp_path / "x.yaml")
    assert value == {"a": {"p": 1}, "b": {"p": 2, "d": ["x", {"e": 3}]}}
    b = {("b",): 2, ("b", "p"): 3, ("b", "d"): 4, ("b", "d", 0): 5, ("b", "d", 1): 6, ("b", "d", 1, "e"): 6}
    assert lines == {("a",): 1, ("a", "p"): 1, **b}
    assert parse_yaml("# nothing yet\n", "x.yaml") == ({}, {})


def test_a_file_that_is_no_config_is_named(tmp_path: Path) -> None:
    for name, content, expected in (
        ("nowhere.yaml", None, "no such file"),
        ("", None, "cannot be read"),
        ("latin.yaml", b"a: \xe4", "cannot be read"),
        ("long.yaml", b"#" * (MAX_BYTES + 1), "expected at most"),
        ("list.yaml", b"- a\n- b\n", "expected keys with values"),
    ):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"^{tmp_path / name}.*{expected}"):
            load_config(Example, tmp_path / name)
