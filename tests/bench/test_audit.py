"""Labels made wrong on purpose are wrong, are no more than was said, and are found by what corrections name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import audit
from bench.audit import BORDERS, SHARE, flips, recall
from data.annotations.challenge import MASK_OF_SHOT
from data.annotations.corrections import apply_corrections
from data.annotations.table import person_name, read_table


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 people of seven images."""
    folder = tmp_path_factory.mktemp("people") / "train"
    for number in range(200):
        gender, age = ("male", "female")[number % 2], 18 + number % 50
        place = folder / "images" / f"{number:06d}_{gender}_Asian_{age}"
        place.mkdir(parents=True)
        for shot in MASK_OF_SHOT:
            (place / f"{shot}.jpg").touch()
    return folder


def test_flips_make_so_many_labels_wrong_and_no_others(people: Path, tmp_path: Path, call: Callable) -> None:
    outcome = call(audit, "flip", "--data", people, "--out", tmp_path / "flips.csv")
    assert outcome.code == 0, outcome.err
    right = read_table([people])
    wrong = apply_corrections(right, tmp_path / "flips.csv")
    by_person = right["person"] != right["person"].shift()
    assert int((wrong["gender"] != right["gender"])[by_person].sum()) == round(SHARE * 200)
    assert int((wrong["mask"] != right["mask"]).sum()) == round(SHARE * len(right))
    classes = [np.digitize(table["age"], BORDERS) for table in (right, wrong)]
    changed = classes[0] != classes[1]
    assert int(changed[by_person].sum()) == round(SHARE * 200)
    assert (wrong["age"] != right["age"]).to_numpy().tolist() == changed.tolist(), (
        "a wrong age is of another class"
    )
    assert not (changed & (wrong["gender"] != right["gender"])).any(), "other people for each label"


def test_chance_is_the_seed_s(people: Path) -> None:
    table = read_table([people])
    assert list(flips(table, 0)) == list(flips(table, 0)) != list(flips(table, 1))


def test_recall_is_the_share_of_flips_in_the_first_rows_of_one_label() -> None:
    made = pd.DataFrame(
        {"person": ["a", "b", "c"], "column": ["mask", "mask", "age"], "shot": ["mask1", "mask2", ""]}
    )
    names = [f"t-00000000/{name}" for name in ("b", "a", "x", *(f"p{number}" for number in range(47)))]
    shots = ["mask2", "normal", "mask1", *["mask1"] * 47]
    ranked = pd.DataFrame({"person": names, "column": "mask", "shot": shots})
    ages = pd.DataFrame({"person": ["c"], "column": ["age"], "shot": [""]})
    # 4 % of 50 rows are two: b's mask2 is made wrong, a's normal is not (its mask1 is).
    assert recall(made, pd.concat([ages, ranked]), "mask") == (1, 2, 2, 50)
    assert person_name(names[0]) == "b"


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "suspects.csv"), ("person,shot\na,mask1\n", "columns person, shot, expected column too")],
)
def test_a_list_that_is_none_is_told(text: str, told: str, tmp_path: Path, call: Callable) -> None:
    (tmp_path / "flips.csv").write_text("person,column,value,shot\na,mask,wear,mask1\n")
    (tmp_path / "suspects.csv").write_text(text)
    outcome = call(audit, "score", "--flips", tmp_path / "flips.csv", "--suspects", tmp_path / "suspects.csv")
    assert outcome.code == 2
    assert told in outcome.err


@pytest.mark.parametrize("seed", ["-1", "one", "1.5"])
def test_a_seed_that_is_none_is_told(seed: str, people: Path, tmp_path: Path, call: Callable) -> None:
    outcome = call(audit, "flip", "--data", people, "--out", tmp_path / "f.csv", "--seed", seed)
    assert outcome.code == 2
    assert f"--seed: '{seed}', expected a whole number, 0 or more" in outcome.err
