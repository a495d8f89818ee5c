"""Drawn people: the challenge's layout and codes, determinism, and images that no single pixel classifies."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier

from data.images.decode import decode
from data.synthetic import __main__ as synthetic
from data.synthetic.dataset import EVAL, plan_people, write_dataset
from data.synthetic.person import imagine_person
from data.synthetic.portrait import SHOTS, draw_portrait

SIZE = (32, 40)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Six people to train on and fifteen others to evaluate on, drawn small in this process."""
    out = tmp_path_factory.mktemp("drawn") / "faces"
    write_dataset(out, people=6, eval_people=15, size=SIZE, seed=8, processes=1)
    return out


def test_the_layout_is_the_challenges(drawn):
    people = pd.read_csv(drawn / "train" / "train.csv", dtype=str)
    assert (list(people), len(people)) == (["id", "gender", "race", "age", "path"], 6)
    for person in people.to_dict("records"):
        assert person["path"] == f"{person['id']}_{person['gender']}_Drawn_{person['age']}"
        shots = {path.name for path in (drawn / "train" / "images" / person["path"]).iterdir()}
        assert shots == {f"mask{n}.jpg" for n in (1, 2, 3, 4, 5)} | {"incorrect_mask.jpg", "normal.jpg"}
    info = pd.read_csv(drawn / "eval" / "info.csv")
    assert set(info["ans"]) == {0}
    names = info["ImageID"].tolist()
    assert names == pd.read_csv(drawn / "eval" / "answers.csv")["ImageID"].tolist()
    assert sorted(names) == sorted(path.name for path in (drawn / "eval" / "images").iterdir())
    assert all(re.fullmatch(r"[0-9a-f]{40}\.jpg", name) for name in names)
    paths = list(drawn.rglob("*.jpg"))
    assert len({path.read_bytes() for path in paths}) == len(paths) == 21 * 7
    assert {decode(path).shape for path in paths} == {(40, 32, 3)}


def test_answers_follow_the_challenges_formula(drawn):
    expected = {}
    for person in plan_people(15, seed=8, part=EVAL, first_number=7):
        for shot in SHOTS:
            mask = {"incorrect_mask": 1, "normal": 2}.get(shot, 0)
            code = mask * 6 + (person.gender == "female") * 3 + (person.age >= 30) + (person.age >= 60)
            expected[person.image_id(shot)] = (code, person.number, person.age)
    answers = pd.read_csv(drawn / "eval" / "answers.csv")
    assert list(answers) == ["ImageID", "ans", "person", "age"]
    assert {name: tuple(row) for name, *row in answers.itertuples(index=False)} == expected
    assert set(answers["ans"]) == set(range(18))


def test_the_bytes_depend_on_the_seed_and_not_on_the_processes(drawn, tmp_path):
    def contents(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    write_dataset(tmp_path / "again", people=6, eval_people=15, size=SIZE, seed=8, processes=2)
    assert contents(tmp_path / "again") == contents(drawn)
    write_dataset(tmp_path / "other", people=6, eval_people=0, size=SIZE, seed=9, processes=1)
    assert set(contents(tmp_path / "other").values()).isdisjoint(path.read_bytes() for path in drawn.rglob("*.jpg"))


def test_a_size_that_is_too_small_is_refused(call, tmp_path):
    outcome = call(synthetic, tmp_path / "out", "--size", "96x15")
    assert outcome.code == 2
    assert "--size '96x15': expected width x height in pixels from 16 up" in outcome.err
    assert not (tmp_path / "out").exists()


def test_no_task_is_trivial_by_one_pixel():
    """A decision stump on the best single pixel channel, or on an image's mean colour, must not suffice."""
    rng = np.random.default_rng(11)
    pixels, labels = [], []
    for index in range(90):
        gender, age = ("male", "female")[index % 2], (22, 45, 70)[index // 2 % 3]
        shot = ("mask1", "incorrect_mask", "normal")[index // 6 % 3]
        image = draw_portrait(imagine_person(age, gender, rng), shot, rng, size=(24, 32))
        pixels.append(np.concatenate([image.ravel(), image.mean(axis=(0, 1))]))
        labels.append((shot, gender, age))
    for column in np.array(labels).T:
        stump = DecisionTreeClassifier(max_depth=1, random_state=0)
        assert stump.fit(pixels, column).score(pixels, column) < 0.9
        assert cross_val_score(stump, pixels, column, cv=3).mean() < 0.8
