"""A config's mistakes are told all at once, each with file, line, key and what was expected."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from data.runtime.errors import InputError
from heads.config.loader import Section, check_config, load_config


class Optimiser(Section):
    name: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3


class Term(Section):
    name: str
    factor: float = 1.0


class Example(Section):
    task: str
    epochs: Annotated[int, Field(ge=1)]
    shuffle: bool = True
    classes: list[str] = Field(default_factory=list)
    terms: list[Term] = Field(default_factory=list)
    weights: Literal["none"] | list[float] | Optimiser = "none"
    optimiser: Optimiser = Optimiser()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text("task: age\nepochs: 3\noptimiser:\n  lr: 1e-3\n", encoding="utf-8")
    return path


def message(path: Path, text: str | None = None, overrides: tuple[str, ...] = ()) -> str:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load_config(Example, path, overrides)
    return str(raised.value).replace(str(path), "x.yaml")


def test_an_unknown_key_is_told_with_its_line_and_the_nearest(path: Path) -> None:
    assert message(path, "task: age\nepochs: 3\noptimiser:\n  lrr: 1e-3\n") == (
        "x.yaml: 1 problem in the config\n  x.yaml:4: optimiser.lrr: unknown key, did you mean lr?"
    )


def test_all_problems_are_told_at_once(path: Path) -> None:
    text = "taskk: age\nepochs: 0\noptimiser:\n  name: adam\n  lr: no\nterms:\n  - {name: a}\n  - {factor: x}\n"
    assert message(path, text).splitlines() == [
        "x.yaml: 7 problems in the config",
        "  x.yaml: task: missing, expected a value",
        "  x.yaml:2: epochs=0: Input should be greater than or equal to 1",
        "  x.yaml:8: terms.1.name: missing, expected a value",
        "  x.yaml:8: terms.1.factor='x': Input should be a valid number",
        "  x.yaml:4: optimiser.name='adam': Input should be 'adamw' or 'sgd'",
        "  x.yaml:5: optimiser.lr='no': Input should be a valid number",
        "  x.yaml:1: taskk: unknown key, did you mean task?",
    ]


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("epochs", "'3'"),
        ("epochs", "3.0"),
        ("epochs", "true"),
        ("epochs", "null"),
        ("epochs", "[3]"),
        ("task", "3"),
        ("task", "true"),
        ("shuffle", "yes"),
        ("shuffle", "1"),
        ("classes", "3"),
        ("classes", "wear"),
        ("optimiser.lr", "true"),
        ("optimiser.lr", "'1e-3'"),
        ("optimiser.lr", "1e999"),
        ("optimiser.lr", "!!float .nan"),
        ("optimiser", "adamw"),
        ("optimiser", "null"),
    ],
)
def test_types_are_not_guessed(path: Path, key: str, written: str) -> None:
    assert f"--set: {key}=" in message(path, overrides=(f"{key}={written}",))


def test_a_whole_number_stands_for_a_number(path: Path) -> None:
    lr = load_config(Example, path, ["optimiser.lr=1"]).optimiser.lr
    assert (lr, type(lr)) == (1.0, float)


def test_a_wrong_member_of_a_union_points_at_its_own_key(path: Path) -> None:
    told = message(path, "task: age\nepochs: 3\nweights:\n  name: sgd\n  lr: -1\n").splitlines()
    assert any(line.startswith("  x.yaml:5: weights") and "greater than 0" in line for line in told)


def test_overrides_are_laid_over_the_file(path: Path) -> None:
    overrides = ["epochs=5", "optimiser.lr=3e-4", "optimiser.name=sgd", "classes=[no, yes]", "shuffle=false"]
    config = load_config(Example, path, [*overrides, "terms=[{name: a, factor: 2}]", "epochs=7"])
    assert config == Example(
        task="age",
        epochs=7,
        shuffle=False,
        classes=["no", "yes"],
        terms=[Term(name="a", factor=2.0)],
        optimiser=Optimiser(name="sgd", lr=3e-4),
    )


@pytest.mark.parametrize("section", ["", "optimiser: null\n"])
def test_an_override_makes_a_section_that_the_file_lacks(path: Path, section: str) -> None:
    path.write_text(f"task: age\nepochs: 3\n{section}", encoding="utf-8")
    assert load_config(Example, path, ["optimiser.lr=0.5"]).optimiser.lr == 0.5


def test_what_an_override_holds_may_have_an_equals_sign(path: Path) -> None:
    assert load_config(Example, path, ["task=a=b"]).task == "a=b"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimiser.lrr=1", "--set: optimiser.lrr: unknown key, did you mean lr?"),
        ("opt.lr=1", "--set: opt: unknown key"),
        ("optimiser.epochs=1", "--set: optimiser.epochs: unknown key, did you mean epochs?"),
        ("optimiser.factor=1", "--set: optimiser.factor: unknown key, did you mean terms.factor?"),
        ("epochs=0", "--set: epochs=0: Input should be greater than or equal to 1"),
        ("epochs", "--set epochs: expected key.sub=value"),
        ("=3", "--set =3: expected key.sub=value"),
        ("task.name=3", "--set task.name=3: task holds no keys"),
        ("epochs=[1", "--set epochs=[1:1: "),
        ("terms=[{nme: a, name: b}]", "--set: terms.0.nme: unknown key, did you mean name?"),
    ],
)
def test_a_wrong_override_says_so(path: Path, override: str, expected: str) -> None:
    assert expected in message(path, overrides=(override,))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text", "3"])
def test_a_file_without_keys_is_refused(path: Path, text: str) -> None:
    assert "expected keys with values" in message(path, text)


@pytest.mark.parametrize("text", ["1: a\n", "null: a\n", "true: a\n"])
def test_a_key_that_is_not_text_is_refused(path: Path, text: str) -> None:
    assert "x.yaml:3: " in message(path, f"task: age\nepochs: 3\n{text}")


def test_values_without_a_file_are_told_by_their_name() -> None:
    with pytest.raises(InputError, match=r"best\.safetensors: epochs=0: Input should be"):
        check_config(Example, {"task": "age", "epochs": 0}, "best.safetensors")


def test_a_config_does_not_change(path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_config(Example, path).epochs = 4  # type: ignore[misc]
