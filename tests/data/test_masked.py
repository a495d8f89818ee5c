"""python -m data.masked: labels, people, random choices and refusals."""

import errno
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data import masked
from data.annotations.folds import assign_folds
from data.annotations.table import read_table
from data.masked import bare_faces, write_masked
from data.runtime.errors import InputError

PEOPLE = ("000001_female_Drawn_20", "000002_male_Drawn_40", "000003_female_Drawn_70")


def image(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(60, 200, (64, 48, 3)).astype(np.uint8)).save(path)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    folder = tmp_path / "portraits"
    rng = np.random.default_rng(0)
    lines = ["path,age,gender,person"]
    for number in range(6):
        image(folder / "images" / f"{number}.png", rng)
        lines.append(f"{number}.png,{20 + number},female,p{number // 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """The challenge's layout: everybody has a normal.jpg."""
    rng = np.random.default_rng(1)
    for person in PEOPLE:
        for shot in ("normal", "mask1", "incorrect_mask"):
            image(tmp_path / "train" / "images" / person / f"{shot}.jpg", rng)
    return tmp_path / "train"


def test_each_face_comes_bare_and_masked_with_its_own_labels(portraits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_masked(read_table([portraits]), out, 3, 0.5, 0, processes=1) == 24
    table = read_table([out])
    assert len(table) == 24
    assert (table["mask"] == "normal").sum() == 6
    assert set(table["mask"]) == {"wear", "incorrect", "normal"}
    per_person = table.groupby("person")["age"].agg(lambda ages: sorted(set(ages)))
    assert per_person.tolist() == [[20, 21], [22, 23], [24, 25]]
    assert (table["gender"] == "female").all()
    folds = pd.Series(assign_folds(table, 2, {}, 0)).groupby(table["person"]).nunique()
    assert (folds == 1).all()


def test_the_share_worn_incorrectly_is_the_requested_one(portraits: Path, tmp_path: Path) -> None:
    write_masked(read_table([portraits]), tmp_path / "right", 2, 0.0, 0, processes=1)
    write_masked(read_table([portraits]), tmp_path / "wrong", 2, 1.0, 0, processes=1)
    assert read_table([tmp_path / "right"])["mask"].value_counts().to_dict() == {"wear": 12, "normal": 6}
    assert read_table([tmp_path / "wrong"])["mask"].value_counts().to_dict() == {"incorrect": 12, "normal": 6}


def test_the_same_seed_draws_the_same_with_any_number_of_processes(portraits: Path, tmp_path: Path) -> None:
    for name, seed, processes in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        write_masked(read_table([portraits]), tmp_path / name, 2, 0.5, seed, processes)
    files = {name: files_in(tmp_path / name / "images") for name in ("one", "two", "other")}
    assert files["one"] == files["two"] != files["other"]


def test_only_bare_faces_are_drawn_on() -> None:
    table = pd.DataFrame({"path": ["a", "b", "c"], "mask": ["wear", "normal", None]})
    assert bare_faces(table)["path"].tolist() == ["b", "c"]
    with pytest.raises(InputError, match="no image of a bare face"):
        bare_faces(table[:1])


def test_no_face_is_lost_where_files_of_several_people_have_the_same_name(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_masked(bare_faces(read_table([people])), out, 2, 0.5, 0, processes=1) == 9
    table = read_table([out])
    assert len(set(table["path"])) == len(list((out / "images").iterdir())) == 9
    assert table.groupby("person")["age"].agg(list).tolist() == [[20] * 3, [40] * 3, [70] * 3]
    for _, row in table[table["mask"] == "normal"].iterrows():
        person = next(name for name in PEOPLE if row["person"].endswith(name))
        with Image.open(people / "images" / person / "normal.jpg") as own, Image.open(row["path"]) as bare:
            difference = np.abs(np.asarray(own, float) - np.asarray(bare, float)).mean()
        assert difference < 5  # compressed as JPEG again; another image of noise differs by 40 and more


def test_the_images_do_not_depend_on_the_place_of_the_folder(people: Path, tmp_path: Path) -> None:
    write_masked(bare_faces(read_table([people])), tmp_path / "here", 2, 0.5, 0, processes=1)
    moved = people.rename(tmp_path / "elsewhere")
    write_masked(bare_faces(read_table([moved])), tmp_path / "there", 2, 0.5, 0, processes=1)
    assert files_in(tmp_path / "here" / "images") == files_in(tmp_path / "there" / "images")


def test_a_unique_file_name_alone_decides_what_is_drawn(portraits: Path, people: Path, tmp_path: Path) -> None:
    write_masked(read_table([portraits]), tmp_path / "alone", 1, 0.5, 0, processes=1)
    both = bare_faces(read_table([portraits, people]))
    write_masked(both, tmp_path / "with_others", 1, 0.5, 0, processes=1)
    alone, with_others = (files_in(tmp_path / name / "images") for name in ("alone", "with_others"))
    assert alone.items() <= with_others.items()
    assert hashlib.sha256(b"0.png").hexdigest()[:20] + "_bare.jpg" in alone


@pytest.mark.parametrize("processes", [1, 2])
def test_all_broken_portraits_are_listed_and_the_same_command_works_without_them(
    portraits: Path, tmp_path: Path, processes: int
) -> None:
    out, table = tmp_path / "out", read_table([portraits])
    for name in ("2.png", "5.png"):
        whole = (portraits / "images" / name).read_bytes()
        (portraits / "images" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be decoded; replace or remove them") as refused:
        write_masked(table, out, 1, 0.5, 0, processes)
    assert [f"{number}.png" in str(refused.value) for number in range(6)] == [
        *(False, False, True),
        *(False, False, True),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["portraits"]
    assert write_masked(table.drop([2, 5]).reset_index(drop=True), out, 1, 0.5, 0, processes) == 8


def test_the_folder_appears_only_when_complete(
    portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert not (tmp_path / "out").exists()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("data.masked.write_text", fail)
    with pytest.raises(OSError, match="No space left") as failed:
        write_masked(read_table([portraits]), tmp_path / "out", 1, 0.5, 0, processes=1)
    assert failed.value.filename == str(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["portraits"]


def test_masked_people_are_in_the_fold_of_their_bare_images(people: Path, tmp_path: Path) -> None:
    write_masked(bare_faces(read_table([people])), tmp_path / "masked", 1, 0.5, 0, processes=1)
    both = read_table([people, tmp_path / "masked"])
    for seed in range(4):
        fold = assign_folds(both, 3, {}, seed)
        who = both["person"].str.rpartition("/")[2]
        assert pd.Series(fold).groupby(who).nunique().tolist() == [1, 1, 1]
        own = both["source"] == str(people)
        np.testing.assert_array_equal(fold[own], assign_folds(both[own].reset_index(drop=True), 3, {}, seed))


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_drawn(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (people / "images" / PEOPLE[0]).rename(people / "images" / os.fsdecode(b"000004_male_Asi\xe9n_34"))
    monkeypatch.setattr(sys, "argv", ["data.masked", "--data", str(people), "--out", str(tmp_path / "out")])
    with pytest.raises(InputError, match=r"names that are not UTF-8 .*, expected others\n.*udce9"):
        masked.main()
    assert not (tmp_path / "out").exists()
