"""python -m data.explore: its figures against counts made by hand, and the page that shows them."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from data import explore
from data.explore_facts import class_facts, fold_facts
from data.manifest import read_table

SHOTS = 7


@pytest.fixture(scope="module")
def known(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn faces with one photograph of somebody else's, one broken, and one of eval/ in train/."""
    folder = tmp_path_factory.mktemp("known") / "faces"
    shutil.copytree(faces, folder)
    first, second, third, *_ = sorted((folder / "train" / "images").iterdir())
    shot = next(first.glob("normal.*"))
    next(second.glob("normal.*")).unlink()
    shutil.copy(shot, second / f"normal{shot.suffix}")
    other = sorted((folder / "eval" / "images").iterdir())[0]
    next(third.glob("normal.*")).unlink()
    shutil.copy(other, third / f"normal{other.suffix}")
    next(third.glob("mask1.*")).write_bytes(b"no picture")
    return folder


def test_the_facts_are_those_of_the_data(
    known: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, facts_file = tmp_path / "explore.html", tmp_path / "explore.json"
    explore.main(
        ["--data", str(known / "train"), "--against", str(known / "eval"), "--folds", "3"]
        + ["--out", str(out), "--json", str(facts_file)]
    )
    facts = json.loads(facts_file.read_text())
    table = read_table([known / "train"])
    assert (facts["photographs"], facts["people"]) == (len(table), table["person"].nunique())
    assert facts["photographs_per_person"] == {str(SHOTS): table["person"].nunique()}
    for label in ("mask", "gender"):
        assert {each["name"]: each["count"] for each in facts["labels"][label]} == Counter(table[label])
    ages = np.digitize(table["age"], [30, 60])
    assert [each["count"] for each in facts["labels"]["age"]] == np.bincount(ages, minlength=3).tolist()
    assert sum(each["count"] for each in facts["joint"]) == len(table)
    assert facts["joint"][0]["count"] == min(each["count"] for each in facts["joint"])
    assert sum(sum(people) for people in facts["ages"]["people"].values()) == facts["people"]
    [broken] = facts["unreadable"]
    assert "mask1" in broken
    found = {kind: each["pairs"] for kind, each in facts["duplicates"].items()}
    assert found["across_people"] == 1
    assert found["between_sets"] == 1
    assert sum(fold["people"] for fold in facts["split"]["folds"]) == facts["people"]
    assert facts["split"]["people_in_two_folds"] == []
    told = capsys.readouterr().out
    assert "the same picture: 1 pairs across people, 1 between the data and --against" in told
    page = out.read_text(encoding="utf-8")
    assert "Rarest of" in page
    assert broken.partition(":")[0] in page
    assert page.count("<svg") == page.count('<svg role="img" aria-label="') == 4


def test_a_picture_in_two_folds_under_two_names_is_told(known: Path) -> None:
    table = read_table([known / "train"])
    people = sorted(table["person"].unique())
    twins = [
        [table["path"][table["person"] == person].iloc[0] for person in (people[0], other)] for other in people
    ]
    facts = fold_facts(table, 3, {}, twins)
    fold = dict(zip(table["path"], _folds(table), strict=True))
    assert facts["pictures_in_two_folds"] == [pair for pair in twins if fold[pair[0]] != fold[pair[1]]]
    assert 0 < len(facts["pictures_in_two_folds"]) < len(twins)


def _folds(table: pd.DataFrame) -> list[int]:
    from data.split import assign_folds

    folds: list[int] = assign_folds(table, 3, {}, 0).tolist()
    return folds


def test_weights_and_draws_are_those_of_training() -> None:
    from heads.sampling import BalancedSampler

    labels = pd.Series(["wear"] * 70 + ["incorrect"] * 25 + ["normal"] * 5)
    facts = {each["name"]: each for each in class_facts(labels)}
    names = sorted(facts)
    expected = compute_class_weight("balanced", classes=np.array(names), y=labels.to_numpy())
    assert np.allclose([facts[name]["class_weight"]["1"] for name in names], expected)
    indices = labels.map({name: place for place, name in enumerate(names)}).to_numpy(np.int64)
    for power in (0.25, 0.5, 1.0):
        sampler = BalancedSampler(indices, [str(row) for row in range(len(indices))], power)
        drawn = np.bincount(indices[np.concatenate([sampler.rows(epoch) for epoch in range(200)])]) / 200
        shares = [facts[name]["drawn_share"][f"{power:g}"] for name in names]
        assert np.allclose(drawn / len(indices), shares, atol=0.002)


def test_a_class_of_the_borders_that_nobody_is_in_is_told_as_none() -> None:
    young = explore.class_column(pd.DataFrame({"age": [20.0, 25.0]}), "age", {"age": [30.0, 60.0]})
    facts = class_facts(young)
    assert [(each["name"], each["count"]) for each in facts][-1] == ("60 and over", 0)
    assert all(np.isfinite(list(each["class_weight"].values())).all() for each in facts)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(explore.InputError, match="found no pictures"):
        explore.pictures_in(tmp_path)
