"""The sampler keeps its promises about classes, persons, length and seeds."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from data.annotations.class_balance import balanced_weights
from data.runtime.errors import InputError
from heads.train.sampler import BalancedSampler, class_counts

LABELS = np.repeat([0, 1, 2], [70, 25, 5])
PERSONS = [f"person {row // 5}" for row in range(100)]


def people(count: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Three classes in unequal shares, unequally many images of each person."""
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(count), rng.integers(1, 9, count))
    labels = np.r_[[0, 1, 2], rng.choice(3, len(persons) - 3, p=[0.7, 0.25, 0.05])]
    return labels, [str(person) for person in persons]


def test_weights_at_power_1_are_scikit_learns_balanced() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert np.allclose(balanced_weights(class_counts(LABELS, "abc"), 1.0), expected)


def test_weights_at_power_0_are_one_and_between_is_the_root() -> None:
    counts = np.array([70, 25, 5])
    assert balanced_weights(counts, 0.0).tolist() == [1.0, 1.0, 1.0]
    assert np.allclose(balanced_weights(counts, 0.5) ** 2, balanced_weights(counts, 1.0))


def test_counts_are_of_each_class_in_order() -> None:
    assert class_counts(np.array([2, 0, 2, 1]), "abc").tolist() == [1, 1, 2]


def test_missing_classes_are_told_by_name() -> None:
    with pytest.raises(InputError) as raised:
        class_counts(np.array([0, 0]), ["wear", "incorrect", "normal"])
    assert str(raised.value).splitlines() == [
        "the training fold lacks a class",
        "  'incorrect': found 0 images, expected at least 1",
        "  'normal': found 0 images, expected at least 1",
    ]


def test_at_power_0_every_row_comes_exactly_once_in_another_order_each_epoch() -> None:
    sampler = BalancedSampler(LABELS, PERSONS)
    first, second = sampler.rows(0), sampler.rows(1)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first.tolist() != second.tolist()


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 50), count=st.integers(4, 60))
def test_at_power_1_classes_come_equally_often(seed: int, epoch: int, count: int) -> None:
    labels, persons = people(count)
    rows = BalancedSampler(labels, persons, power=1.0, seed=seed).rows(epoch)
    drawn = np.bincount(labels[rows], minlength=3)
    assert len(rows) == len(labels)
    assert np.abs(drawn - len(labels) / 3).max() <= 1 + 1e-9


@given(seed=st.integers(0, 2**32 - 1), power=st.floats(0.01, 1))
def test_a_row_comes_its_expected_number_of_times_rounded_down_or_up(seed: int, power: float) -> None:
    counts = np.bincount(LABELS)
    weights = counts[LABELS] ** -power
    expected = weights / weights.sum() * len(LABELS)
    drawn = np.bincount(BalancedSampler(LABELS, PERSONS, power, seed=seed).rows(0), minlength=len(LABELS))
    assert (np.abs(drawn - expected) < 1 + 1e-9).all()


@given(
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 50),
    most=st.integers(1, 9),
    power=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_no_person_shows_more_images_than_allowed(seed: int, epoch: int, most: int, power: float) -> None:
    labels, persons = people(30)
    sampler = BalancedSampler(labels, persons, power, most, seed)
    rows = sampler.rows(epoch)
    shown = Counter(persons[row] for row in set(rows.tolist()))
    assert max(shown.values()) <= most
    assert len(rows) == len(sampler) == sum(min(most, count) for count in Counter(persons).values())


def test_with_a_cap_classes_still_come_equally_often() -> None:
    # One person has all of the second class, so the cap takes most of it away.
    labels = np.repeat([0, 1], [60, 40])
    persons = [str(row) for row in range(60)] + ["one"] * 40
    rows = BalancedSampler(labels, persons, power=1.0, per_person=3).rows(0)
    assert np.abs(np.bincount(labels[rows]) - 63 / 2).max() <= 1


def test_which_images_of_a_person_come_changes_from_epoch_to_epoch() -> None:
    sampler = BalancedSampler(np.zeros(10, dtype=np.int64), ["one"] * 10, per_person=2)
    seen = {int(row) for epoch in range(40) for row in sampler.rows(epoch)}
    assert seen == set(range(10))


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_the_same_seed_and_epoch_give_the_same_rows(seed: int, epoch: int) -> None:
    first, second = (BalancedSampler(LABELS, PERSONS, 0.5, 3, seed).rows(epoch).tolist() for _ in range(2))
    assert first == second
    assert first != BalancedSampler(LABELS, PERSONS, 0.5, 3, seed + 1).rows(epoch).tolist()
    assert first != BalancedSampler(LABELS, PERSONS, 0.5, 3, seed).rows(epoch + 1).tolist()


def test_a_pass_is_told_as_epoch_row_and_how_often_it_came_before() -> None:
    sampler = BalancedSampler(LABELS, PERSONS, 1.0, seed=4, epoch=7)
    draws = list(sampler)
    assert [(epoch, row) for epoch, row, _ in draws] == [(7, row) for row in sampler.rows(7)]
    assert len(set(draws)) == len(draws) == len(sampler)
    assert Counter(again for _, _, again in draws)[0] == len({row for _, row, _ in draws}) < len(draws)
    before = {draw: place for place, draw in enumerate(draws)}
    assert all(before[7, row, again - 1] < before[7, row, again] for _, row, again in draws if again)


def test_a_pass_gone_on_with_is_the_rest_of_it() -> None:
    sampler = BalancedSampler(LABELS, PERSONS, 1.0, seed=4)
    draws = list(sampler)
    sampler.skip = 60
    assert list(sampler) == draws[60:]
