"""The sampler balances classes, limits images per person, and depends on seed and epoch alone."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heads.train.sampler import BalancedSampler

LABELS = np.repeat([0, 1, 2], [70, 25, 5])
PERSONS = [f"person {row // 5}" for row in range(100)]
SEEDS = st.integers(0, 2**32 - 1)


def people(count: int) -> tuple[np.ndarray, list[str]]:
    """Three classes in unequal shares, different numbers of images per person."""
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(count), rng.integers(1, 9, count))
    labels = np.r_[[0, 1, 2], rng.choice(3, len(persons) - 3, p=[0.7, 0.25, 0.05])]
    return labels, [str(person) for person in persons]


def test_at_power_0_every_row_is_drawn_once_in_another_order_each_epoch() -> None:
    sampler = BalancedSampler(LABELS, PERSONS)
    first, second = sampler.rows(0), sampler.rows(1)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first.tolist() != second.tolist()


@given(seed=SEEDS, epoch=st.integers(0, 50), count=st.integers(4, 60))
def test_at_power_1_classes_are_drawn_equally_often(seed: int, epoch: int, count: int) -> None:
    labels, persons = people(count)
    rows = BalancedSampler(labels, persons, power=1.0, seed=seed).rows(epoch)
    assert len(rows) == len(labels)
    assert np.abs(np.bincount(labels[rows], minlength=3) - len(labels) / 3).max() <= 1 + 1e-9


@given(seed=SEEDS, power=st.floats(0.01, 1))
def test_a_row_is_drawn_its_expected_number_of_times_rounded_down_or_up(seed: int, power: float) -> None:
    weights = np.bincount(LABELS)[LABELS] ** -power
    expected = weights / weights.sum() * len(LABELS)
    drawn = np.bincount(BalancedSampler(LABELS, PERSONS, power, seed=seed).rows(0), minlength=len(LABELS))
    assert (np.abs(drawn - expected) < 1 + 1e-9).all()


@given(
    seed=st.integers(0, 1000), epoch=st.integers(0, 50), limit=st.integers(1, 9), power=st.sampled_from([0.0, 0.5, 1.0])
)
def test_no_person_has_more_different_images_than_allowed(seed: int, epoch: int, limit: int, power: float) -> None:
    labels, persons = people(30)
    sampler = BalancedSampler(labels, persons, power, limit, seed)
    rows = sampler.rows(epoch)
    assert max(Counter(persons[row] for row in set(rows.tolist())).values()) <= limit
    assert len(rows) == len(sampler) == sum(min(limit, count) for count in Counter(persons).values())


def test_with_a_limit_classes_are_still_drawn_equally_often_and_all_images_in_time() -> None:
    # One person has all of the second class, of which the limit leaves 3.
    labels = np.repeat([0, 1], [60, 40])
    persons = [str(row) for row in range(60)] + ["one"] * 40
    sampler = BalancedSampler(labels, persons, power=1.0, per_person=3)
    assert np.abs(np.bincount(labels[sampler.rows(0)]) - 63 / 2).max() <= 1
    assert {int(row) for epoch in range(100) for row in sampler.rows(epoch)} == set(range(100))


@given(seed=SEEDS, epoch=st.integers(0, 1000))
def test_the_same_seed_and_epoch_give_the_same_rows(seed: int, epoch: int) -> None:
    first, second = (BalancedSampler(LABELS, PERSONS, 0.5, 3, seed).rows(epoch).tolist() for _ in range(2))
    assert first == second
    assert first != BalancedSampler(LABELS, PERSONS, 0.5, 3, seed + 1).rows(epoch).tolist()
    assert first != BalancedSampler(LABELS, PERSONS, 0.5, 3, seed).rows(epoch + 1).tolist()


def test_an_index_has_the_epoch_the_row_and_how_often_it_was_drawn_before() -> None:
    sampler = BalancedSampler(LABELS, PERSONS, 1.0, seed=4, epoch=7)
    indices = list(sampler)
    assert [(epoch, row) for epoch, row, _ in indices] == [(7, row) for row in sampler.rows(7)]
    assert len(set(indices)) == len(indices) == len(sampler)
    place = {index: number for number, index in enumerate(indices)}
    repeated = [(row, repeat) for _, row, repeat in indices if repeat]
    assert repeated
    assert all(place[7, row, repeat - 1] < place[7, row, repeat] for row, repeat in repeated)
    sampler.skip = 60
    assert list(sampler) == indices[60:]
