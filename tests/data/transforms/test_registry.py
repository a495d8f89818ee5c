"""Steps are found by name, called with checked arguments, and every mistake is told at once."""

from typing import Annotated, Any

import pytest
from pydantic import Field

from data.transforms.registry import build_ops


def scale(value: float, by: Annotated[float, Field(gt=0)] = 2.0) -> float:
    return value * by


def negate(value: float) -> float:
    return -value


TABLE = {"scale": scale, "negate": negate}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("scale", 6.0),
        ({"scale": None}, 6.0),
        ({"scale": {}}, 6.0),
        ({"scale": {"by": 5}}, 15.0),
        ("negate", -3.0),
    ],
)
def test_a_step_is_a_name_or_a_name_with_arguments(step: Any, expected: float) -> None:
    assert [called.result for called in build_ops([step], TABLE, 3.0)] == [expected]


def test_a_called_step_shows_its_arguments() -> None:
    assert [str(step) for step in build_ops(["scale", {"scale": {"by": 5}}], TABLE, 3.0)] == [
        "scale",
        "scale(by=5)",
    ]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("scael", "step 1: 'scael' is unknown, expected one of scale, negate"),
        ({"scale": {"bye": 2.0}}, "step 1 (scale): bye: Unexpected keyword argument; scale takes by"),
        ({"scale": {"by": 0.0}}, "step 1 (scale): by: Input should be greater than 0; scale takes by"),
        ({"scale": {"by": "2"}}, "step 1 (scale): by: Input should be a valid number; scale takes by"),
        ({"scale": {"by": True}}, "step 1 (scale): by: Input should be a valid number; scale takes by"),
        ({"negate": {"by": 2.0}}, "negate takes no arguments"),
        ({"scale": None, "negate": None}, "step 1: 'scale + negate' is unknown"),
        ({}, "step 1: '' is unknown"),
    ],
)
def test_a_wrong_step_is_told_with_what_would_be_right(step: Any, message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (the message is compared whole below)
        build_ops([step], TABLE, 3.0)
    assert message in str(raised.value)


def test_all_wrong_steps_are_told_together() -> None:
    with pytest.raises(
        ValueError, match=r"step 1: 'no' is unknown.*; step 2 .scale.: by.*; step 4: 'on' is unknown"
    ):
        build_ops(["no", {"scale": {"by": -1.0}}, "negate", "on"], TABLE, 3.0)


def test_an_error_of_the_step_itself_is_not_taken_for_a_wrong_argument() -> None:
    def fails(value: float) -> float:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        build_ops(["fails"], {"fails": fails}, 3.0)
