"""Folds share no person, hold the classes in equal shares and depend on the source and the seed alone."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations.folds import assign_folds, read_folds, store_folds
from data.runtime.errors import InputError

STRATA = {"mask": [], "gender": [], "age": [30, 60]}
MASKS = ["wear"] * 5 + ["incorrect", "normal"]


def make_source(name: str, people: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    ages = rng.choice([20.0, 40.0, 70.0], people, p=[0.47, 0.455, 0.075])
    genders = rng.choice(["male", "female"], people, p=[0.4, 0.6])
    rows = [(name, f"{name}/{p}/{s}", f"{name}/{p}", MASKS[s], genders[p], ages[p]) for p, s in np.ndindex(people, 7)]
    return pd.DataFrame(rows, columns=["source", "path", "person", "mask", "gender", "age"])


A, B = make_source("a", 300), make_source("b", 40, seed=1)


def assign_stored_folds(file: Path, table: pd.DataFrame, folds: int, strata: dict, seed: int) -> np.ndarray:
    """What a training does."""
    fold = assign_folds(table, folds, strata, seed, read_folds(file, folds))
    store_folds(file, folds, dict(zip(table["person"], fold.tolist(), strict=True)))
    return fold


@settings(max_examples=15, deadline=None)
@given(st.integers(5, 25), st.integers(2, 5), st.integers(0, 9))
def test_every_row_has_a_fold_and_no_person_two(people, folds, seed):
    table = make_source("a", people, seed)
    fold = assign_folds(table, folds, STRATA, seed)
    assert set(fold) == set(range(folds))
    assert pd.Series(fold).groupby(table["person"]).nunique().max() == 1


def test_only_the_source_and_the_seed_matter():
    alone = assign_folds(A, 5, STRATA, seed=3)
    shuffled = pd.concat([B, A], ignore_index=True).sample(frac=1, random_state=0)
    fold = pd.Series(assign_folds(shuffled, 5, STRATA, seed=3), index=shuffled["path"].to_numpy())
    np.testing.assert_array_equal(fold[A["path"].to_numpy()], alone)
    assert np.mean(assign_folds(A, 5, STRATA, seed=4) != alone) > 0.5


def test_strata_have_near_equal_shares_and_borders_belong_to_the_class_above():
    fold = assign_folds(A, 5, STRATA, seed=0)
    people = A.assign(age=np.digitize(A["age"], [30, 60]))[A["mask"] == "normal"]
    counts = pd.crosstab([people["gender"], people["age"]], fold[people.index])
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1
    on_borders = A.assign(age=np.where(A["age"] < 30, 29.0, np.where(A["age"] < 60, 30.0, 60.0)))
    by_age = assign_folds(on_borders, 5, {"age": [60, 30]}, seed=0)
    np.testing.assert_array_equal(by_age, assign_folds(A, 5, {"age": [30, 60]}, seed=0))


def test_missing_values_are_a_stratum_and_missing_columns_or_too_rare_values_are_none():
    some = A.assign(age=A["age"].where(A["age"] < 60))
    with_missing = assign_folds(some, 5, {"age": [30], "glasses": []}, seed=0)
    unknown = pd.Series(with_missing[some["age"].isna().to_numpy()]).value_counts()
    assert unknown.max() - unknown.min() <= len(MASKS)
    np.testing.assert_array_equal(with_missing, assign_folds(some, 5, {"age": [30]}, seed=0))
    too_rare = A.assign(gender=A["person"])[A["mask"] == "normal"]
    assert np.bincount(assign_folds(too_rare, 5, {"gender": []}, seed=0)).tolist() == [60] * 5


def test_wrong_requests_are_refused():
    with pytest.raises(InputError, match="too few people for 41 folds") as raised:
        assign_folds(pd.concat([A, B]), 41, STRATA, seed=0)
    assert str(raised.value).splitlines()[1:] == ["  b: 40 people, expected at least 41"]
    with pytest.raises(InputError, match="folds=1, expected at least 2"):
        assign_folds(A, 1, STRATA, seed=0)
    with pytest.raises(InputError, match="found 'wear'"):
        assign_folds(A, 5, {"mask": [30]}, seed=0)


def test_people_of_several_sources_are_in_the_fold_of_the_original():
    portraits = make_source("portraits", 30)
    alone = pd.Series(assign_folds(portraits, 5, STRATA, seed=0)).groupby(portraits["person"]).first()
    some = portraits[2 * len(MASKS) :]  # not of all people: by themselves they would get other folds
    masked = some.assign(source="masked", path="masked/" + some["path"], original_source="portraits")
    table = pd.concat([masked, portraits], ignore_index=True)
    fold = pd.Series(assign_folds(table, 5, STRATA, seed=0))
    np.testing.assert_array_equal(fold, alone[table["person"]])


def test_kept_folds_are_those_of_the_first_time_and_readable(tmp_path):
    file = tmp_path / "runs" / "folds-5-0.csv"
    first = assign_stored_folds(file, A, 5, STRATA, 0)
    np.testing.assert_array_equal(first, assign_folds(A, 5, STRATA, 0))
    some = A[A["age"] < 60].assign(source="moved")
    np.testing.assert_array_equal(assign_stored_folds(file, some, 5, {}, 0), first[some.index])
    lines = file.read_text().splitlines()
    assert lines[:2] == ["person,fold", f"a/0,{first[0]}"]
    assert len(lines) == 301, "people whose images were removed stay"
    more = pd.concat([A, B])
    np.testing.assert_array_equal(assign_stored_folds(file, more, 5, STRATA, 0)[: len(A)], first)
    assert len(file.read_text().splitlines()) == 341


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("anna,5\n", ":2: fold='5', expected a number from 0 to 4"),
        ("anna,1\nanna,1\n", ":3: person='anna' twice"),
        ("anna\n", ":2: 1 values, expected 2"),
    ],
)
def test_a_damaged_file_of_folds_is_refused_and_stays(tmp_path, lines, problem):
    file = tmp_path / "folds-5-0.csv"
    file.write_text(text := f"person,fold\n{lines}")
    with pytest.raises(InputError, match="restore the file") as raised:
        assign_stored_folds(file, A, 5, STRATA, 0)
    assert f"{file}{problem}" in str(raised.value)
    assert file.read_text() == text


def test_names_that_no_csv_can_hold_keep_their_folds(tmp_path):
    names = {"a/0": os.fsdecode(b"Asi\xe9n"), "a/1": "line\r\nend", "a/2": 'quote" ,'}
    people = [names.get(person, person) for person in A["person"]]
    table = A.assign(person=pd.Series(people, dtype=pd.StringDtype("python")))
    first = assign_stored_folds(tmp_path / "folds.csv", table, 5, STRATA, 0)
    np.testing.assert_array_equal(assign_stored_folds(tmp_path / "folds.csv", table, 5, STRATA, 0), first)
    np.testing.assert_array_equal(first, assign_folds(table, 5, STRATA, 0))


def test_two_processes_cannot_give_one_person_two_folds(tmp_path):
    file = tmp_path / "folds.csv"
    store_folds(file, 5, {"anna": 1, "ben": 2})
    store_folds(file, 5, {"ben": 2, "cleo": 0})
    with pytest.raises(InputError, match="start this one again"):
        store_folds(file, 5, {"anna": 3, "dora": 4})
    assert read_folds(file, 5) == {"anna": 1, "ben": 2, "cleo": 0}
