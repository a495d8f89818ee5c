"""python -m data.explore: its figures against counts made by hand, and its page."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.utils.class_weight import compute_class_weight

from data.annotations.folds import assign_folds
from data.annotations.table import read_table
from data.explore import __main__ as explore
from data.explore import images
from data.explore.analysis import STRATA, class_column, class_facts, fold_facts
from data.runtime.errors import InputError

CONFIGS = Path(__file__).parents[3] / "configs"
SHOTS = 7


@pytest.fixture(scope="module")
def known(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn faces with one image of somebody else's, one broken, and one of eval/ in train/."""
    folder = tmp_path_factory.mktemp("known") / "faces"
    shutil.copytree(faces, folder)
    first, second, third, *_ = sorted((folder / "train" / "images").iterdir())
    shot = next(first.glob("normal.*"))
    next(second.glob("normal.*")).unlink()
    shutil.copy(shot, second / f"normal{shot.suffix}")
    other = sorted((folder / "eval" / "images").iterdir())[0]
    next(third.glob("normal.*")).unlink()
    shutil.copy(other, third / f"normal{other.suffix}")
    next(third.glob("mask1.*")).write_bytes(b"no image")
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
    summary = capsys.readouterr().out
    assert "the same image: 1 pairs across people, 1 between the data and --against" in summary
    page = out.read_text(encoding="utf-8")
    assert "Rarest of" in page
    assert broken.partition(":")[0] in page
    assert page.count("<svg") == page.count('<svg role="img" aria-label="') == 4


def test_equal_images_of_two_people_in_two_folds_are_counted_and_some_listed(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_LISTED", 2)
    table = read_table([faces / "train"])
    first = table.drop_duplicates("person").index.to_numpy()
    pairs = np.array([(first[0], other) for other in first])
    fold = assign_folds(table, 3, {}, 0)
    expected = [[table["path"][i], table["path"][j]] for i, j in pairs if fold[i] != fold[j]]
    assert 2 < len(expected) < len(pairs)
    facts = fold_facts(table, 3, {}, pairs)
    assert facts["pairs_in_two_folds"] == len(expected)
    assert facts["pictures_in_two_folds"] == expected[:2]
    assert [each["photographs"] for each in facts["folds"]] == np.bincount(fold).tolist()


def test_weights_and_draws_are_those_of_training() -> None:
    from heads.train.sampler import BalancedSampler

    labels = pd.Series(["wear"] * 70 + ["incorrect"] * 25 + ["normal"] * 5)
    facts = {each["name"]: each for each in class_facts(labels)}
    names = sorted(facts)
    expected = compute_class_weight("balanced", classes=np.array(names), y=labels.to_numpy())
    assert np.allclose([facts[name]["class_weight"]["1"] for name in names], expected)
    indices = labels.map({name: place for place, name in enumerate(names)}).to_numpy(np.int64)
    for power in (0.25, 0.5, 1.0):
        sampler = BalancedSampler(indices, [str(row) for row in range(len(indices))], power)
        drawn = np.bincount(indices[np.concatenate([sampler.rows(epoch) for epoch in range(50)])]) / 50
        shares = [facts[name]["drawn_share"][f"{power:g}"] for name in names]
        assert np.allclose(drawn / len(indices), shares, atol=0.005)


def labelled(faces: Path, folder: Path) -> Path:
    """A folder with labels of six people's masks and nothing else; the last image is the first one's."""
    (folder / "images").mkdir(parents=True)
    lines = ["path,person,mask"]
    for number, person in enumerate(sorted((faces / "train" / "images").iterdir())[:6]):
        for shot in ("normal", "mask1"):
            name = f"{number}{shot}.jpg"
            shutil.copy(next(person.glob(f"{shot}.*")), folder / "images" / name)
            lines.append(f"{name},p{number},{shot}")
    shutil.copy(folder / "images" / "0normal.jpg", folder / "images" / "5normal.jpg")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_labels_need_no_ages_and_those_asked_for_must_be_there(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = labelled(faces, tmp_path / "data")
    explore.main(["--data", str(data), "--folds", "2", "--json", "facts.json"])
    facts = json.loads(Path("facts.json").read_text())
    assert facts["ages"] == {}
    assert {each["name"]: each["count"] for each in facts["labels"]["mask"]} == {"normal": 6, "mask1": 6}
    with pytest.raises(InputError) as caught:
        explore.main(["--data", str(data), "--labels", "masc", "mask", "age"])
    assert str(caught.value).splitlines() == [
        "--labels: expected columns of the data, which are mask",
        "  masc: no such column, did you mean mask?",
        "  age: no such column",
    ]


def test_images_of_the_data_are_not_another_set_by_whatever_path(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = labelled(faces, tmp_path / "data")
    Path("linked").symlink_to("data")
    Path("more").mkdir()
    shutil.copy(data / "images" / "1normal.jpg", "more/copy.jpg")
    Path("more/own").symlink_to(data / "images")
    for against, other in (("data", 0), ("./data/../linked/images", 0), ("more", 1)):
        explore.main(["--data", "data", "--against", against, "--folds", "2", "--json", "facts.json"])
        facts = json.loads(Path("facts.json").read_text())
        assert (facts["against"], facts["against_in_data"]) == (other, 12)
        found = {kind: each["pairs"] for kind, each in facts["duplicates"].items()}
        assert (found["across_people"], found["between_sets"]) == (1, other)
        assert "of --against, 12 are in --data as well and were left out" in capsys.readouterr().out
    assert facts["duplicates"]["between_sets"]["examples"] == [
        [str(data / "images" / "1normal.jpg"), str(tmp_path / "more" / "copy.jpg")]
    ]


def test_an_empty_class_between_borders_counts_0() -> None:
    young = class_column(pd.DataFrame({"age": [20.0, 25.0]}), "age", {"age": [30.0, 60.0]})
    facts = class_facts(young)
    assert [(each["name"], each["count"]) for each in facts][-1] == ("60 and over", 0)
    assert all(np.isfinite(list(each["class_weight"].values())).all() for each in facts)


def test_a_folder_without_images_is_refused(faces: Path, tmp_path: Path) -> None:
    data = labelled(faces, tmp_path / "data")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none: found no image, expected a folder of images"):
        explore.main(["--data", str(data), "--against", str(tmp_path / "none")])


def test_the_folds_are_those_of_training_whatever_is_counted(faces: Path, tmp_path: Path) -> None:
    splits = set()
    for number, more in enumerate(([], ["--labels", "mask"], ["--ages", "20", "40"])):
        facts_file = tmp_path / f"{number}.json"
        given = ["--data", str(faces / "train"), "--out", str(tmp_path / "page.html"), "--folds", "3", *more]
        explore.main([*given, "--json", str(facts_file)])
        splits.add(json.dumps(json.loads(facts_file.read_text())["split"]))
    assert len(splits) == 1
    recipes = [yaml.safe_load(file.read_text()) for file in CONFIGS.glob("[agm]*.yaml")]
    assert len(recipes) == 4
    strata = {name: list(borders) for name, borders in STRATA.items()}
    for recipe in recipes:
        assert (recipe["split"]["folds"], recipe["split"]["strata"]) == (10, strata)


@pytest.mark.parametrize("ages", [["nan"], ["30", "30"], ["60", "30"], ["0"], ["121"]])
def test_ages_that_are_no_borders_are_refused(faces: Path, ages: list[str]) -> None:
    with pytest.raises(InputError, match=r"--ages .*: expected years from 1 to 120, rising"):
        explore.main(["--data", str(faces / "train"), "--ages", *ages])


def test_a_label_without_values_is_reported_as_such(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = labelled(faces, tmp_path / "data")
    table = pd.read_csv(data / "labels.csv")
    table.assign(age="").to_csv(data / "labels.csv", index=False)
    given = ["--data", str(data), "--folds", "2", "--out", str(tmp_path / "page.html")]
    explore.main([*given, "--json", str(tmp_path / "facts.json")])
    assert "age: no image has one" in capsys.readouterr().out
    facts = json.loads((tmp_path / "facts.json").read_text(), parse_constant=pytest.fail)
    assert (facts["labels"]["age"], facts["unlabelled"]["age"]) == ([], 12)
