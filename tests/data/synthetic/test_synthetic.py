import csv
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier

from data.runtime.errors import InputError
from data.synthetic import __main__ as synthetic
from data.synthetic.__main__ import SHOTS, draw_image, imagine_person, write_dataset

REPOSITORY = Path(__file__).parents[3]
SIZE = (48, 64)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Six people to train on and three others to evaluate on, drawn small in this process."""
    out = tmp_path_factory.mktemp("drawn") / "faces"
    write_dataset(out, people=6, eval_people=3, size=SIZE, seed=3, processes=1)
    return out


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_layout_is_the_challenges(drawn):
    people = rows(drawn / "train" / "train.csv")
    assert list(people[0]) == ["id", "gender", "race", "age", "path"]
    assert len(people) == 6
    for person in people:
        assert person["path"] == f"{person['id']}_{person['gender']}_Drawn_{person['age']}"
        shots = {path.name for path in (drawn / "train" / "images" / person["path"]).iterdir()}
        assert shots == {f"mask{n}.jpg" for n in (1, 2, 3, 4, 5)} | {"incorrect_mask.jpg", "normal.jpg"}
    asked, answers = rows(drawn / "eval" / "info.csv"), rows(drawn / "eval" / "answers.csv")
    assert {row["ans"] for row in asked} == {"0"}
    names = [row["ImageID"] for row in asked]
    assert names == [row["ImageID"] for row in answers]
    assert set(names) == {path.name for path in (drawn / "eval" / "images").iterdir()}
    assert len(names) == 3 * 7
    assert all(re.fullmatch(r"[0-9a-f]{40}\.jpg", name) for name in names)


def test_images_have_the_size_asked_for(drawn):
    for path in drawn.rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.size, image.mode, image.format) == (SIZE, "RGB", "JPEG")


def test_answers_follow_from_the_people_by_the_challenges_formula(tmp_path):
    write_dataset(tmp_path / "asked", people=0, eval_people=15, size=(16, 16), seed=8, processes=1)
    expected = {}
    for sitter in synthetic._plan_people(15, seed=8, part=synthetic.EVAL, first_number=1):
        for shot in SHOTS:
            mask = 0 if shot.startswith("mask") else 1 if shot == "incorrect_mask" else 2
            age = 0 if sitter.age < 30 else 1 if sitter.age < 60 else 2
            name = synthetic._image_id(sitter, shot)
            expected[name] = mask * 6 + (0 if sitter.gender == "male" else 1) * 3 + age
    given = {row["ImageID"]: int(row["ans"]) for row in rows(tmp_path / "asked" / "eval" / "answers.csv")}
    assert given == expected
    assert set(given.values()) == set(range(18))


def test_answers_tell_who_and_how_old(drawn):
    answers = rows(drawn / "eval" / "answers.csv")
    assert list(answers[0]) == ["ImageID", "ans", "person", "age"]
    ages = {row["person"]: row["age"] for row in answers}
    assert len(ages) == 3
    for row in answers:
        assert row["age"] == ages[row["person"]]
        assert int(row["ans"]) % 3 == sum(int(row["age"]) >= border for border in (30, 60))


def test_same_arguments_give_the_same_bytes_whatever_the_processes(drawn, tmp_path):
    write_dataset(tmp_path / "again", people=6, eval_people=3, size=SIZE, seed=3, processes=2)
    assert contents(tmp_path / "again") == contents(drawn)


def test_another_seed_draws_other_people(drawn, tmp_path):
    write_dataset(tmp_path / "other", people=6, eval_people=0, size=SIZE, seed=4, processes=1)
    first, second = (
        {path.read_bytes() for path in out.rglob("normal.jpg")} for out in (drawn, tmp_path / "other")
    )
    assert len(first) == len(second) == 6
    assert first.isdisjoint(second)


def test_no_two_images_are_alike_in_train_or_eval(drawn):
    images = [path.read_bytes() for path in drawn.rglob("*.jpg")]
    assert len(images) == len(set(images)) == 9 * 7


def test_images_of_one_person_differ_and_the_person_stays():
    person = imagine_person(40, "female", np.random.default_rng(1))
    rng = np.random.default_rng(2)
    first, second = (draw_image(person, "mask1", rng).astype(int) for _ in range(2))
    assert first.shape == (128, 96, 3)
    assert np.abs(first - second).mean() > 5
    assert person == imagine_person(40, "female", np.random.default_rng(1))


def test_shares_of_the_classes():
    people = synthetic._plan_people(100, seed=0, part=synthetic.TRAIN, first_number=1)
    classes = Counter((person.age >= 30) + (person.age >= 60) for person in people)
    assert [classes[index] for index in range(3)] == [40, 40, 20]
    assert Counter(person.gender for person in people) == {"male": 50, "female": 50}
    assert len({person.number for person in people}) == 100


def test_refuses_to_mix_with_what_is_there(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not an empty folder; name a new folder or remove it first"):
        write_dataset(tmp_path, people=1, eval_people=0, size=SIZE, seed=0, processes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write_dataset(tmp_path / "out", people=1, eval_people=0, size=(16, 16), seed=0, processes=1)
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 7


def test_an_empty_folder_behind_a_link_is_filled(tmp_path):
    (tmp_path / "disk" / "empty").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "empty")
    write_dataset(tmp_path / "out", people=1, eval_people=0, size=(16, 16), seed=0, processes=1)
    assert (tmp_path / "out").is_symlink()
    assert len(list((tmp_path / "disk" / "empty").rglob("*.jpg"))) == 7


def test_a_disk_which_nothing_can_be_renamed_to_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: path.name == "disk")
    with pytest.raises(InputError, match="disk: a disk is mounted there, expected a folder in it; name one"):
        write_dataset(tmp_path / "disk", people=1, eval_people=0, size=(16, 16), seed=0, processes=1)


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("data.synthetic.__main__._write_tables", full)
    with pytest.raises(OSError, match="no space left"):
        write_dataset(tmp_path / "out", people=1, eval_people=0, size=(16, 16), seed=0, processes=1)
    assert list(tmp_path.iterdir()) == []


def test_command_line_refuses_a_size_it_cannot_read(tmp_path):
    command = [sys.executable, "-m", "data.synthetic", str(tmp_path / "out"), "--size", "96by128"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --size '96by128': expected width x height in pixels")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_task_is_trivial_by_one_pixel():
    """A decision stump on the best single pixel channel, or on an image's mean colour, must not do."""
    rng = np.random.default_rng(11)
    pixels, labels = [], []
    for index in range(90):
        gender, age = ("male", "female")[index % 2], (22, 45, 70)[index // 2 % 3]
        person = imagine_person(age, gender, rng)
        shot = ("mask1", "incorrect_mask", "normal")[index // 6 % 3]
        image = draw_image(person, shot, rng, size=(24, 32))
        pixels.append(np.concatenate([image.ravel(), image.mean(axis=(0, 1))]))
        labels.append((shot, gender, age))
    for column in np.array(labels).T:
        stump = DecisionTreeClassifier(max_depth=1, random_state=0)
        assert stump.fit(pixels, column).score(pixels, column) < 0.9
        assert cross_val_score(stump, pixels, column, cv=3).mean() < 0.8
