"""Label columns to classes and distributions, and logits back to probabilities."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from data.runtime.errors import InputError
from heads.objective.targets import Target

NAMES = ("under 30", "30 to 59", "60 and over")
MASK = Target("mask", ("wear", "incorrect", "normal"))
AGE_CLASS = Target("age", NAMES, (30.0, 60.0))
AGE = Target("age", NAMES, (30.0, 60.0), (0, 100), 3.0)


def table(column: str, values: list) -> pd.DataFrame:
    return pd.DataFrame({"path": [f"{row}.jpg" for row in range(len(values))], column: values})


def random_logits(outputs: int, rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, outputs, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize(
    ("target", "values", "expected"),
    [
        (MASK, ["normal", "wear", "incorrect", "wear"], [2, 0, 1, 0]),
        (AGE_CLASS, [0.0, 29.0, 29.5, 30.0, 59.0, 60.0, 100.0], [0, 0, 0, 1, 1, 2, 2]),
        (AGE, [0.0, 29.0, 29.5, 30.0, 59.0, 60.0, 100.0, 116.0], [0, 0, 0, 1, 1, 2, 2, 2]),
        (AGE, ["29", "60"], [0, 2]),
        (Target("age", NAMES, (30.0, 60.0), ordinal="corn"), [60.0, 18.0], [2, 0]),
    ],
)
def test_labels_become_class_indices(target: Target, values: list, expected: list[int]) -> None:
    rows = table(target.column, values)
    indices = target.class_indices(rows)
    assert (indices.tolist(), indices.dtype) == (expected, np.int64)
    if target.numbers is None:
        assert torch.equal(target.encode(rows), torch.tensor(expected))
    else:
        assert target.values(rows).tolist() == [float(value) for value in values]


@pytest.mark.parametrize(
    ("target", "values", "expected"),
    [
        (MASK, ["wear", "Wear", "normal", "mouth"], {1: "'Wear'", 3: "'mouth'"}),
        (AGE, [20.0, 101.0, -1.0, np.inf], {2: "-1.0", 3: "inf"}),
        (AGE, ["3O"], {0: "'3O'"}),
    ],
)
def test_all_labels_that_fit_no_class_are_reported(target: Target, values: list, expected: dict) -> None:
    with pytest.raises(InputError) as raised:
        target.encode(table(target.column, values))
    first, *lines = str(raised.value).splitlines()
    assert first == f"{len(expected)} labels in column {target.column!r} fit no class"
    fitting = "one of wear, incorrect, normal" if target is MASK else "a number from 0 up"
    assert lines == [f"  {row}.jpg: found {value}, expected {fitting}" for row, value in expected.items()]


def test_rows_without_the_label_are_left_out_and_the_rest_renumbered() -> None:
    rows = MASK.select_rows(table("mask", [None, "wear", None, "normal"]))
    assert (rows.path.tolist(), rows.index.tolist()) == (["1.jpg", "3.jpg"], [0, 1])
    for labels in (table("gender", ["male"]), table("mask", [None]).assign(gender="male")):
        with pytest.raises(InputError, match="no row has a label in column 'mask'; found the columns path, gender"):
            MASK.select_rows(labels)


def test_gaussian_labels_are_the_normalised_normal_density() -> None:
    years = np.array([0.0, 30.0, 57.0, 99.5])
    ours = AGE.encode(table("age", list(years))).numpy()
    density = norm.pdf(np.arange(101), loc=years[:, None], scale=3.0)
    assert np.allclose(ours, density / density.sum(axis=1, keepdims=True), atol=1e-7)
    assert torch.equal(*AGE.encode(table("age", [100.0, 116.0])))


def test_probabilities_of_years_are_summed_within_classes() -> None:
    logits = random_logits(101)
    years = logits.softmax(dim=1)
    sums = torch.stack([years[:, :30].sum(1), years[:, 30:60].sum(1), years[:, 60:].sum(1)], dim=1)
    assert torch.allclose(AGE.probabilities(logits), sums, atol=1e-6)
    half = logits.bfloat16()
    assert torch.equal(AGE.probabilities(half), AGE.probabilities(half.float()))
    assert torch.equal(MASK.probabilities(logits[:, :3]), logits[:, :3].softmax(dim=1))
    corn = Target("age", NAMES, (30.0, 60.0), ordinal="corn")
    certain = torch.logit(torch.tensor([[0.8, 0.5]]))
    assert torch.allclose(corn.probabilities(certain), torch.tensor([[0.2, 0.4, 0.4]]))


def test_a_range_that_does_not_begin_at_zero_counts_its_own_numbers() -> None:
    target, logits = Target("age", NAMES, (30.0, 60.0), (29, 61), 1.0), random_logits(33)
    assert (target.outputs, torch.bincount(target.pool).tolist()) == (33, [1, 30, 2])
    mean = logits.double().softmax(dim=1).numpy() @ np.arange(29, 62)
    assert np.allclose(target.expectation(logits).numpy(), mean, atol=1e-3)


def test_a_target_of_parts_has_the_joint_code_of_its_parts() -> None:
    gender = Target("gender", ("male", "female"))
    names = tuple(f"{m} / {g} / {a}" for m in MASK.classes for g in gender.classes for a in NAMES)
    joint = Target("", names, parts=(MASK, gender, AGE_CLASS))
    genders = ["female", "male", "male", "male"]
    rows = table("mask", ["normal", "incorrect", "wear", None]).assign(gender=genders, age=[61.0, 30.0, 29.0, 40.0])
    assert joint.class_indices(joint.select_rows(rows)).tolist() == [2 * 6 + 3 + 2, 6 + 1, 0]
    assert joint.outputs == 18
