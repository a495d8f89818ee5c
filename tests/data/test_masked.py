"""python -m data.masked: labels, people, random choices and refusals."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import masked
from data.annotations.table import read_table
from data.images.decode import decode
from data.masked import bare_faces, write_masked

PEOPLE = ("000001_female_Drawn_20", "000002_male_Drawn_40", "000003_female_Drawn_70")


def image(path, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(60, 200, (64, 48, 3)).astype(np.uint8)).save(path)


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def portraits(tmp_path):
    folder = tmp_path / "portraits"
    rng = np.random.default_rng(0)
    lines = ["path,age,gender,person"]
    for number in range(6):
        image(folder / "images" / f"{number}.png", rng)
        lines.append(f"{number}.png,{20 + number},female,p{number // 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def people(tmp_path):
    """The challenge's layout: everybody has a normal.jpg."""
    rng = np.random.default_rng(1)
    for person in PEOPLE:
        for shot in ("normal", "mask1", "incorrect_mask"):
            image(tmp_path / "train" / "images" / person / f"{shot}.jpg", rng)
    return tmp_path / "train"


@pytest.mark.parametrize(("wrong", "classes"), [(0.0, {"wear": 12}), (1.0, {"incorrect": 12})])
def test_each_face_is_written_bare_and_masked_with_its_own_labels(portraits, tmp_path, wrong, classes):
    assert write_masked(read_table([portraits]), tmp_path / "out", 2, wrong, 0, processes=1) == 18
    table = read_table([tmp_path / "out"])
    assert table["mask"].value_counts().to_dict() == {"normal": 6} | classes
    assert table["derived_from"].value_counts().to_dict() == {f"images/{number}.png": 3 for number in range(6)}
    assert set(table["original_source"]) == {"portraits"}
    per_person = table.groupby("person")["age"].agg(lambda ages: sorted(set(ages)))
    assert per_person.tolist() == [[20, 21], [22, 23], [24, 25]]
    assert (table["gender"] == "female").all()


def test_images_derived_twice_name_their_first_original(portraits, tmp_path):
    write_masked(read_table([portraits]), tmp_path / "once", 1, 0.5, 0, processes=1)
    table = read_table([tmp_path / "once", portraits])
    write_masked(bare_faces(table), tmp_path / "twice", 1, 0.5, 0, processes=1)
    twice = read_table([tmp_path / "twice"])
    assert set(twice["original_source"]) == {"portraits"}
    assert twice["derived_from"].value_counts().to_dict() == {f"images/{number}.png": 4 for number in range(6)}
    assert twice.groupby("person")["derived_from"].nunique().to_dict() == {"p0": 2, "p1": 2, "p2": 2}


def test_the_seed_decides_and_not_the_number_of_processes(portraits, tmp_path):
    for name, seed, processes in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        write_masked(read_table([portraits]), tmp_path / name, 2, 0.5, seed, processes)
    files = {name: files_in(tmp_path / name / "images") for name in ("one", "two", "other")}
    assert files["one"] == files["two"] != files["other"]


def test_no_face_is_lost_where_files_of_several_people_have_the_same_name(people, tmp_path):
    out = tmp_path / "out"
    assert write_masked(bare_faces(read_table([people])), out, 2, 0.5, 0, processes=1) == 9
    table = read_table([out])
    assert len(set(table["path"])) == len(list((out / "images").iterdir())) == 9
    assert table.groupby("person")["age"].agg(list).tolist() == [[20] * 3, [40] * 3, [70] * 3]
    for row in table[table["mask"] == "normal"].to_dict("records"):
        own = decode(people / "images" / row["person"] / "normal.jpg")
        assert np.abs(own.astype(int) - decode(Path(row["path"]))).mean() < 5  # of another image of noise over 40


def test_a_file_name_decides_what_is_drawn_and_not_the_place_or_other_files(portraits, people, tmp_path):
    def masked_files(name, *sources):
        write_masked(bare_faces(read_table(sources)), tmp_path / name, 1, 0.5, 0, processes=1)
        return files_in(tmp_path / name / "images")

    alone, both = masked_files("alone", portraits), masked_files("both", portraits, people)
    elsewhere = masked_files("elsewhere", *(folder.rename(f"{folder}_moved") for folder in (portraits, people)))
    assert alone.items() <= both.items()
    assert both == elsewhere


def test_all_broken_portraits_are_listed_or_left_out(portraits, tmp_path, call):
    out = tmp_path / "out"
    for name in ("2.png", "5.png"):
        whole = (portraits / "images" / name).read_bytes()
        (portraits / "images" / name).write_bytes(whole[: len(whole) // 2])
    command = ("--data", portraits, "--out", out, "--per-face", 1, "--processes", 2)
    refused = call(masked, *command)
    assert (refused.code, "cannot be decoded; replace or remove them" in refused.err) == (2, True)
    assert [number for number in range(6) if f"{number}.png" in refused.err] == [2, 5]
    assert [path.name for path in tmp_path.iterdir()] == ["portraits"]
    skipped = call(masked, *command, "--on-bad-image", "skip")
    assert (skipped.code, "2 images cannot be decoded and are left out" in skipped.err) == (0, True)
    assert len(read_table([out])) == 8


@pytest.mark.parametrize(
    ("options", "message"), [(["--wrong", "1.1"], "--wrong 1.1: expected a share"), ([], "names that are not UTF-8")]
)
def test_wrong_input_is_refused_before_anything_is_drawn(people, tmp_path, call, options, message):
    (people / "images" / PEOPLE[0]).rename(people / "images" / os.fsdecode(b"000004_male_Asi\xe9n_34"))
    outcome = call(masked, "--data", people, "--out", tmp_path / "out", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "out").exists()
