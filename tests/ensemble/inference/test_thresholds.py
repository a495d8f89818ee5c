"""Margins: never more answers changed than the budget, and for one task the most passes saved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from ensemble.inference.early_exit import needs_all_views
from ensemble.inference.thresholds import (
    Pair,
    allowed_disagreements,
    choose_thresholds,
    early_exit_probabilities,
)
from ensemble.metrics.decide import argmax


def pairs_of(seed: int, images: int, classes: tuple[int, ...] = (3, 2, 3)) -> dict[str, Pair]:
    """Two views' probabilities for each of some tasks; some answers change from one to their mean."""
    rng = np.random.default_rng(seed)
    pairs = {}
    for task, count in enumerate(classes):
        said = rng.normal(0, 2, (images, count))
        views = np.exp(said + rng.normal(0, 0.7, (2, images, count)))
        views = (views / views.sum(axis=2, keepdims=True)).astype(np.float32)
        pairs[str(task)] = (views.mean(axis=0), views[0])
    return pairs


def differing(pairs: dict[str, Pair], margins: dict[str, float]) -> int:
    settled = argmax(list(early_exit_probabilities(pairs, margins).values()))
    return int((settled != argmax([merged for merged, _ in pairs.values()])).sum())


@pytest.mark.parametrize("photographs", [0, 1, 597, 598, 2604, 20_000, 400_000])
def test_the_budget_is_the_binomial_bound(images: int) -> None:
    found = allowed_disagreements(images)
    assert found == -1 or binom.cdf(found, images, 0.005) <= 0.05
    assert binom.cdf(found + 1, images, 0.005) > 0.05


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 300))
def test_no_more_answers_change_than_the_budget_allows(seed: int, budget: int, images: int) -> None:
    pairs = pairs_of(seed, images)
    margins = choose_thresholds(pairs, {"0": 1, "1": 3, "2": 2}, budget)
    assert differing(pairs, margins) <= budget
    assert all(0 <= margin <= 1 for margin in margins.values())


@given(st.integers(0, 10**6), st.integers(0, 12))
def test_for_one_task_no_margin_saves_more(seed: int, budget: int) -> None:
    pairs = pairs_of(seed, 120, (3,))
    margin = choose_thresholds(pairs, {"0": 1}, budget)["0"]
    identity = pairs["0"][1].astype(np.float64)
    second, first = np.sort(identity, axis=1)[:, -2:].T
    possible = [m for m in {0.0, 1.0, *(first - second)} if differing(pairs, {"0": m}) <= budget]
    assert needs_all_views(identity, margin).sum() == min(needs_all_views(identity, m).sum() for m in possible)


def test_a_image_that_two_tasks_change_is_counted_once() -> None:
    sure, changed = [0.9, 0.1], [0.4, 0.6]
    identity = np.array([sure] * 9 + [[0.7, 0.3]], dtype=np.float32)
    merged = np.array([sure] * 9 + [changed], dtype=np.float32)
    pairs = {"a": (merged, identity), "b": (merged, identity)}
    assert choose_thresholds(pairs, {"a": 1, "b": 1}, 1) == {"a": 0.0, "b": 0.0}
    kept = choose_thresholds(pairs, {"a": 1, "b": 1}, 0)
    assert all(0.39 < margin < 0.8 for margin in kept.values())
    assert differing(pairs, kept) == 0


def test_without_a_budget_nothing_is_settled() -> None:
    pairs = pairs_of(0, 50)
    margins = choose_thresholds(pairs, dict.fromkeys(pairs, 1), -1)
    assert set(margins.values()) == {1.0}
    assert differing(pairs, margins) == 0


def test_the_dearer_head_is_spared_first() -> None:
    pairs = pairs_of(1, 400, (3,)) | {"same": pairs_of(1, 400, (3,))["0"]}
    cheap_first = choose_thresholds(pairs, {"0": 1, "same": 50}, 3)
    assert cheap_first["same"] <= cheap_first["0"]
    assert 0 < differing(pairs, cheap_first) <= 3
