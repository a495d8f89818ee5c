"""Duplicates: equal digests, and fingerprints compared pair by pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.explore.duplicates import BLOCK, across, exact_groups, near_pairs


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 40))
def test_near_pairs_are_those_of_a_plain_loop(fingerprints: list[int], distance: int) -> None:
    expected = [
        [i, j]
        for i in range(len(fingerprints))
        for j in range(i + 1, len(fingerprints))
        if (fingerprints[i] ^ fingerprints[j]).bit_count() <= distance
    ]
    assert near_pairs(np.array(fingerprints, dtype=np.uint64), distance).tolist() == expected


@pytest.mark.parametrize("apart", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_pairs_are_found_across_blocks(apart: int) -> None:
    fingerprints = np.random.default_rng(0).integers(0, 2**63, 4 * BLOCK, dtype=np.uint64)
    fingerprints[7 + apart] = fingerprints[7]
    assert near_pairs(fingerprints, 0).tolist() == [[7, 7 + apart]]


def test_groups_and_pairs_of_other_owners() -> None:
    assert exact_groups(["x", "y", "x", "x"]) == [[0, 2, 3]]
    assert across(np.array([[0, 1], [0, 2]]), ["anna", "anna", "ben"]).tolist() == [[0, 2]]
    assert across(np.empty((0, 2), np.int64), []).tolist() == []
