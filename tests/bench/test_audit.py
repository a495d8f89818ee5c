"""Flipped labels are wrong, are as many as promised, and are found under the names of a corrections file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import audit
from bench.audit import BORDERS, SHARE, draw_flips, recall
from data.annotations.corrections import apply_corrections
from data.annotations.table import MASK_OF_SHOT, read_table


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 people with seven images each."""
    folder = tmp_path_factory.mktemp("people") / "train"
    for number in range(200):
        place = folder / "images" / f"{number:06d}_{('male', 'female')[number % 2]}_Asian_{18 + number % 50}"
        place.mkdir(parents=True)
        for shot in MASK_OF_SHOT:
            (place / f"{shot}.jpg").touch()
    return folder


def test_flips_make_that_share_of_labels_wrong(people: Path, tmp_path: Path, call: Callable) -> None:
    outcome = call(audit, "flip", "--debug", "--data", people, "--out", tmp_path / "flips.csv")
    assert outcome.code == 0, outcome.err
    right = read_table([people])
    wrong = apply_corrections(right, tmp_path / "flips.csv")
    first = right["person"] != right["person"].shift()
    gender, mask, age = (wrong[name] != right[name] for name in ("gender", "mask", "age"))
    assert [gender[first].sum(), age[first].sum(), mask.sum()] == [SHARE * 200, SHARE * 200, SHARE * len(right)]
    classes = [np.digitize(table["age"], BORDERS) for table in (right, wrong)]
    assert age.tolist() == (classes[0] != classes[1]).tolist(), "a wrong age is of another class"
    assert not (age & gender).any(), "other people for each label"
    assert list(draw_flips(right, 0)) == list(draw_flips(right, 0)) != list(draw_flips(right, 1))


def test_recall_counts_flips_in_the_first_rows_of_one_label() -> None:
    flips = pd.DataFrame({"person": ["a", "b", "c"], "column": ["mask", "mask", "age"], "shot": ["mask1", "mask2", ""]})
    names = ["b", "a", "x", *(f"p{number}" for number in range(47))]
    ranked = pd.DataFrame({"person": names, "column": "mask", "shot": ["mask2", "normal", *["mask1"] * 48]})
    ages = pd.DataFrame({"person": ["c"], "column": ["age"], "shot": [""]})
    # 4 % of 50 rows are two: b's mask2 is flipped, a's normal is not (a's mask1 is).
    assert recall(flips, pd.concat([ages, ranked]), "mask") == (1, 2, 2, 50)
