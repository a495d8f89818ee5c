"""Steps by name, called with checked arguments; all mistakes are reported at once."""

from typing import Annotated, Any

import pytest
from pydantic import Field

from data.transforms.registry import build_ops


def scale(value: float, by: Annotated[float, Field(gt=0)] = 2.0) -> float:
    return value * by


def negate(value: float) -> float:
    return -value


TABLE = {"scale": scale, "negate": negate}


def test_a_step_is_a_name_or_a_name_with_arguments() -> None:
    steps: list[Any] = ["scale", {"scale": None}, {"scale": {}}, {"scale": {"by": 5}}, "negate"]
    assert [op.result for op in build_ops(steps, TABLE, 3.0)] == [6.0, 6.0, 6.0, 15.0, -3.0]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("scael", "'scael' is unknown, did you mean scale? expected one of scale, negate"),
        ({"scale": {"bye": 2.0}}, "(scale): bye: Unexpected keyword argument; scale takes by"),
        ({"scale": {"by": 0.0}}, "(scale): by: Input should be greater than 0; scale takes by"),
        ({"scale": {"by": True}}, "(scale): by: Input should be a valid number; scale takes by"),
        ({"negate": {"by": 2.0}}, "negate takes no arguments"),
        ({"scale": None, "negate": None}, "'scale + negate' is unknown"),
    ],
)
def test_wrong_steps_are_all_reported_with_what_is_expected(step: Any, message: str) -> None:
    with pytest.raises(ValueError, match="step 1") as raised:
        build_ops([step, "negate", "on"], TABLE, 3.0)
    assert message in str(raised.value)
    assert "; step 3: 'on' is unknown, expected one of scale, negate" in str(raised.value)
