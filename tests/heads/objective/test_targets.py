"""Label columns to classes and distributions, and logits back to probabilities."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from data.runtime.errors import InputError
from heads.objective.targets import Target, gaussian_labels

NAMES = ("under 30", "30 to 59", "60 and over")
MASK = Target("mask", ("wear", "incorrect", "normal"))
AGE_CLASS = Target("age", NAMES, (30.0, 60.0))
AGE = Target("age", NAMES, (30.0, 60.0), (0, 100), 3.0)


def table(column: str, values: list) -> pd.DataFrame:
    return pd.DataFrame({"path": [f"{row}.jpg" for row in range(len(values))], column: values})


def random_logits(outputs: int, rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, outputs, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("target", [AGE_CLASS, AGE], ids=["classes", "distribution"])
def test_a_border_belongs_to_the_class_above_it(target: Target) -> None:
    ages = table("age", [0.0, 29.0, 29.5, 30.0, 59.0, 60.0, 100.0])
    assert target.class_indices(ages).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_class_names_become_their_places() -> None:
    indices = MASK.class_indices(table("mask", ["normal", "wear", "incorrect", "wear"]))
    assert indices.tolist() == [2, 0, 1, 0]
    assert indices.dtype == np.int64


def test_a_target_of_classes_encodes_to_indices() -> None:
    assert torch.equal(MASK.encode(table("mask", ["normal", "wear"])), torch.tensor([2, 0]))
    assert torch.equal(AGE_CLASS.encode(table("age", [60.0, 18.0])), torch.tensor([2, 0]))


def test_gaussian_labels_are_the_normal_density_made_to_sum_to_one() -> None:
    years = np.array([0.0, 30.0, 57.0, 99.5])
    ours = AGE.encode(table("age", list(years))).numpy()
    density = norm.pdf(np.arange(101), loc=years[:, None], scale=3.0)
    assert np.allclose(ours, density / density.sum(axis=1, keepdims=True), atol=1e-7)


@given(st.integers(0, 100), st.floats(0.2, 20))
def test_a_gaussian_label_sums_to_one_and_peaks_at_its_year(year: int, sigma: float) -> None:
    label = gaussian_labels(torch.tensor([float(year)]), (0, 100), sigma)
    assert label.sum().item() == pytest.approx(1, abs=1e-5)
    assert label.argmax().item() == year


def test_probabilities_of_classes_are_the_softmax() -> None:
    logits = random_logits(3)
    assert torch.equal(MASK.probabilities(logits), logits.softmax(dim=1))


def test_probabilities_of_years_pool_into_classes() -> None:
    logits = random_logits(101)
    years = logits.softmax(dim=1)
    sums = torch.stack([years[:, :30].sum(1), years[:, 30:60].sum(1), years[:, 60:].sum(1)], dim=1)
    assert torch.allclose(AGE.probabilities(logits), sums, atol=1e-6)


def test_a_range_that_does_not_begin_at_zero_pools_by_its_own_numbers() -> None:
    target = Target("age", NAMES, (30.0, 60.0), (29, 61), 1.0)
    assert target.outputs == 33
    assert torch.bincount(target.pool).tolist() == [1, 30, 2]


def test_the_expected_number_is_the_mean_of_the_distribution() -> None:
    target = Target("age", NAMES, (30.0, 60.0), (20, 80), 1.0)
    logits = random_logits(61)
    mean = logits.double().softmax(dim=1).numpy() @ np.arange(20, 81)
    assert np.allclose(target.expected(logits).numpy(), mean, atol=1e-3)


def test_a_gaussian_label_read_as_a_prediction_gives_its_year_and_class_back() -> None:
    ages = table("age", [20.0, 45.0, 70.0])
    logits = AGE.encode(ages).log()
    assert AGE.expected(logits).tolist() == pytest.approx([20.0, 45.0, 70.0], abs=1e-3)
    assert AGE.probabilities(logits).argmax(dim=1).tolist() == [0, 1, 2]


def test_half_precision_logits_are_widened_first() -> None:
    logits = random_logits(101).bfloat16()
    assert torch.equal(AGE.probabilities(logits), AGE.probabilities(logits.float()))
    assert AGE.probabilities(logits).sum(dim=1).tolist() == pytest.approx([1] * 5, abs=1e-5)


def test_rows_without_the_label_are_left_out_and_the_rest_renumbered() -> None:
    rows = MASK.labelled(table("mask", [None, "wear", None, "normal"]))
    assert rows.path.tolist() == ["1.jpg", "3.jpg"]
    assert rows.index.tolist() == [0, 1]


@pytest.mark.parametrize("labels", [table("gender", ["male"]), table("mask", [None]).assign(gender="male")])
def test_no_label_at_all_is_told_with_the_columns_that_there_are(labels: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no row has a label in column 'mask'; found the columns path, gender"):
        MASK.labelled(labels)


def test_labels_that_fit_no_class_are_told_all_at_once() -> None:
    with pytest.raises(InputError) as raised:
        MASK.class_indices(table("mask", ["wear", "Wear", "normal", "mouth"]))
    assert str(raised.value).splitlines() == [
        "2 labels in column 'mask' fit no class",
        "  1.jpg: found 'Wear', expected one of wear, incorrect, normal",
        "  3.jpg: found 'mouth', expected one of wear, incorrect, normal",
    ]


def test_numbers_outside_the_distribution_are_told_all_at_once() -> None:
    with pytest.raises(InputError) as raised:
        AGE.encode(table("age", [20.0, 101.0, -1.0, np.inf]))
    assert str(raised.value).splitlines() == [
        "2 labels in column 'age' fit no class",
        "  2.jpg: found -1.0, expected a number from 0 up",
        "  3.jpg: found inf, expected a number from 0 up",
    ]


def test_text_in_a_column_of_numbers_is_read_where_it_is_a_number() -> None:
    years = Target("years", NAMES, (30.0, 60.0), (0, 100), 3.0)
    assert years.class_indices(table("years", ["29", "60"])).tolist() == [0, 2]
    assert years.values(table("years", ["29", "60"])).tolist() == [29.0, 60.0]
    with pytest.raises(InputError, match=r"0\.jpg: found '3O', expected a number from 0 up"):
        years.class_indices(table("years", ["3O"]))


def test_a_distribution_needs_borders_and_classes_have_no_mean() -> None:
    with pytest.raises(ValueError, match="numbers need borders"):
        Target("age", NAMES, None, (0, 100))
    with pytest.raises(ValueError, match="no expected number"):
        MASK.expected(torch.zeros(1, 3))


def test_the_last_number_stands_for_all_beyond_it() -> None:
    labels = AGE.encode(table("age", [100.0, 116.0]))
    assert torch.equal(labels[0], labels[1])
    assert AGE.class_indices(table("age", [116.0])).tolist() == [2]


def test_an_ordinal_target_has_an_output_per_border() -> None:
    corn = Target("age", NAMES, (30.0, 60.0), ordinal="corn")
    assert corn.outputs == 2
    assert torch.equal(corn.encode(table("age", [60.0, 18.0])), torch.tensor([2, 0]))
    yes = torch.logit(torch.tensor([[0.8, 0.5]]))
    assert torch.allclose(corn.probabilities(yes), torch.tensor([[0.2, 0.4, 0.4]]))
    with pytest.raises(ValueError, match="either"):
        Target("age", NAMES, (30.0, 60.0), (0, 100), ordinal="corn")


def test_rows_left_out_are_those_within_the_ranges_ends_included() -> None:
    rows = AGE.without(table("age", [27.0, 28.0, 29.0, 30.0, 56.0, 57.0, 59.0, 60.0]), [[28, 29], [57, 59]])
    assert rows["age"].tolist() == [27.0, 30.0, 56.0, 60.0]
    assert rows.index.tolist() == [0, 1, 2, 3]


def test_a_target_of_parts_has_the_joint_code_of_its_parts() -> None:
    gender = Target("gender", ("male", "female"))
    names = tuple(f"{m} / {g} / {a}" for m in MASK.classes for g in gender.classes for a in NAMES)
    joint = Target("", names, parts=(MASK, gender, AGE_CLASS))
    rows = pd.DataFrame(
        {
            "path": ["a", "b", "c", "d"],
            "mask": ["normal", "incorrect", "wear", None],
            "gender": ["female", "male", "male", "male"],
            "age": [61.0, 30.0, 29.0, 40.0],
        }
    )
    known = joint.labelled(rows)
    assert joint.class_indices(known).tolist() == [2 * 6 + 3 + 2, 6 + 1, 0]
    assert joint.outputs == 18
    with pytest.raises(ValueError, match="combinations"):
        Target("", NAMES, parts=(MASK, gender))
