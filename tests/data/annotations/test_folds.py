"""Folds share no person, hold the classes in equal shares and depend on the source and the seed alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations.folds import assign_folds
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
    with pytest.raises(ValueError, match="two sources"):
        assign_folds(pd.concat([A, A.assign(source="b")]), 5, STRATA, seed=0)


def test_all_images_derived_from_a_person_are_in_one_fold():
    tables = {"portraits-0000000a": make_source("portraits-0000000a", 30)}
    derived = [("m1-0000000b", "portraits-0000000a"), ("m2-0000000c", "portraits-0000000a")]
    for name, of in [*derived, ("m3-0000000d", "m1-0000000b")]:
        some = tables[of][2 * len(MASKS) :]  # not of all people: by themselves they would get other folds
        tables[name] = some.assign(source=name, person=name + "/" + some["person"], path=name + "/" + some["path"])
    for chosen in (list(tables), list(tables)[1:3], list(tables)[::3]):
        table = pd.concat([tables[name] for name in chosen], ignore_index=True)
        fold = pd.Series(assign_folds(table, 5, STRATA, seed=0))
        assert fold.groupby(table["person"].str.rpartition("/")[2]).nunique().max() == 1
