"""python -m data.explore: its figures against counts made by hand, and its page."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.utils.class_weight import compute_class_weight

from data.annotations.table import read_table
from data.explore import __main__ as explore
from data.explore.analysis import STRATA, age_classes, class_facts
from data.runtime.errors import InputError

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the command in `tmp_path` and return its facts."""
    monkeypatch.chdir(tmp_path)

    def explore_data(*options):
        explore.main([*map(str, options), "--folds", "3", "--json", "facts.json"])
        facts: dict[str, Any] = json.loads(Path("facts.json").read_text(), parse_constant=pytest.fail)
        return facts

    return explore_data


@pytest.fixture
def labelled(faces, tmp_path):
    """A folder with labels of six people's masks alone; the last person's image is the first one's."""
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    lines = ["path,person,mask"]
    for number, person in enumerate(sorted((faces / "train" / "images").iterdir())[:6]):
        for shot in ("normal", "mask1"):
            shutil.copy(person / f"{shot}.jpg", images / f"{number}{shot}.jpg")
            lines.append(f"{number}{shot}.jpg,p{number},{shot}")
    shutil.copy(images / "0normal.jpg", images / "5normal.jpg")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def test_the_facts_are_those_of_the_data(faces, tmp_path, run, capsys):
    data = tmp_path / "faces"
    shutil.copytree(faces, data)
    first, second, third, *_ = sorted((data / "train" / "images").iterdir())
    shutil.copy(first / "normal.jpg", second / "normal.jpg")
    shutil.copy(sorted((data / "eval" / "images").iterdir())[0], third / "normal.jpg")
    (third / "mask1.jpg").write_bytes(b"no image")
    facts = run("--data", data / "train", "--against", data / "eval")
    table = read_table([data / "train"])
    assert (facts["photographs"], facts["people"]) == (len(table), table["person"].nunique())
    assert facts["photographs_per_person"] == {"7": facts["people"]}
    assert {each["name"]: each["count"] for each in facts["labels"]["mask"]} == Counter(table["mask"])
    ages = np.digitize(table["age"], [30, 60])
    assert [each["count"] for each in facts["labels"]["age"]] == np.bincount(ages, minlength=3).tolist()
    assert sum(each["count"] for each in facts["joint"]) == len(table)
    assert facts["joint"][0]["count"] == min(each["count"] for each in facts["joint"])
    assert sum(sum(people) for people in facts["ages"]["people"].values()) == facts["people"]
    [broken] = facts["unreadable"]
    assert "mask1" in broken
    found = {kind: each["pairs"] for kind, each in facts["duplicates"].items()}
    assert (found["across_people"], found["between_sets"]) == (1, 1)
    assert sum(fold["people"] for fold in facts["split"]["folds"]) == facts["people"]
    assert "the same image: 1 pairs across people, 1 between the data and --against" in capsys.readouterr().out
    page = Path("explore.html").read_text(encoding="utf-8")
    assert "Rarest of" in page
    assert broken.partition(":")[0] in page
    assert page.count("<svg") == page.count('<svg role="img" aria-label="') == 4


def test_people_of_one_name_in_two_sources_are_two(labelled, tmp_path, run):
    shutil.copytree(labelled, tmp_path / "other")
    facts = run("--data", labelled, "--data", tmp_path / "other")
    assert (facts["photographs"], facts["people"]) == (24, 12)
    assert facts["photographs_per_person"] == {"2": 12}
    found = {kind: each["pairs"] for kind, each in facts["duplicates"].items()}
    # Every image is there twice, and one of them four times: its 6 pairs are all of two people.
    assert (found["same_person"], found["across_people"]) == (0, 10 + 6)
    assert sum(fold["people"] for fold in facts["split"]["folds"]) == 12


def test_weights_are_those_of_scikit_learn_and_empty_classes_count_0():
    labels = pd.Series(["wear"] * 70 + ["incorrect"] * 25 + ["normal"] * 5)
    facts = {each["name"]: each for each in class_facts(labels)}
    expected = compute_class_weight("balanced", classes=np.array(list(facts)), y=labels.to_numpy())
    assert np.allclose([each["class_weight"]["1"] for each in facts.values()], expected)
    last = class_facts(age_classes(pd.Series([20.0, 25.0]), [30.0, 60.0]))[-1]
    assert (last["name"], last["count"], last["class_weight"]["1"]) == ("60 and over", 0, 0)


def test_labels_need_no_ages_and_requested_ones_must_be_columns(labelled, run):
    facts = run("--data", labelled)
    assert facts["ages"] == {}
    assert {each["name"]: each["count"] for each in facts["labels"]["mask"]} == {"normal": 6, "mask1": 6}
    with pytest.raises(InputError, match=r"which are mask\n.*masc: .* did you mean mask\?\n.*age: no such column"):
        run("--data", labelled, "--labels", "masc", "mask", "age")


def test_images_of_the_data_are_not_another_set_by_whatever_path(labelled, run, capsys):
    Path("linked").symlink_to("data")
    Path("more").mkdir()
    shutil.copy(labelled / "images" / "1normal.jpg", "more/copy.jpg")
    Path("more/own").symlink_to(labelled / "images")
    pictures = run("--data", "data")["pictures"]
    for against, other in (("data", 0), ("./data/../linked/images", 0), ("more", 1)):
        facts = run("--data", "data", "--against", against)
        assert facts["pictures"] == pictures, "those of the data alone"
        assert (facts["against"], facts["against_in_data"]) == (other, 12)
        found = {kind: each["pairs"] for kind, each in facts["duplicates"].items()}
        assert (found["across_people"], found["between_sets"]) == (1, other)
        assert "of --against, 12 are in --data as well and were left out" in capsys.readouterr().out


def test_the_folds_are_those_of_training_whatever_is_counted(faces, run):
    options: list[list[str]] = [[], ["--labels", "mask"], ["--ages", "20", "40"]]
    first, *others = (run("--data", faces / "train", *more)["split"] for more in options)
    assert others == [first, first]
    strata = {name: list(borders) for name, borders in STRATA.items()}
    for file in CONFIGS.glob("[agm]*.yaml"):
        assert yaml.safe_load(file.read_text())["split"] | {"seed": 0} == {"folds": 10, "seed": 0, "strata": strata}


@pytest.mark.parametrize("ages", [["nan"], ["30", "30"], ["60", "30"], ["0"], ["121"]])
def test_ages_that_are_no_borders_are_refused(ages):
    with pytest.raises(InputError, match=r"--ages .*: expected years from 1 to 120, rising"):
        explore.main(["--data", "a", "--ages", *ages])


def test_too_few_people_are_refused_before_the_images_are_read(labelled, monkeypatch):
    monkeypatch.setattr("data.explore.analysis.parallel_map", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(InputError, match="too few people for 7 folds"):
        explore.main(["--data", str(labelled), "--folds", "7"])
