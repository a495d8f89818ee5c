"""A folder of bare faces becomes a data folder with masks: labels, people, chance, refusals."""

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
from data.masked import MaskPlan, bare_faces, write_masked
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
    assert write_masked(read_table([portraits]), out, MaskPlan(3, 0.5, 0), processes=1) == 24
    table = read_table([out])
    assert len(table) == 24
    assert (table["mask"] == "normal").sum() == 6
    assert set(table["mask"]) == {"wear", "incorrect", "normal"}
    per_person = table.groupby("person")["age"].agg(lambda ages: sorted(set(ages)))
    assert per_person.tolist() == [[20, 21], [22, 23], [24, 25]]
    assert (table["gender"] == "female").all()
    folds = pd.Series(assign_folds(table, 2, {}, 0)).groupby(table["person"]).nunique()
    assert (folds == 1).all()


def test_the_share_worn_incorrectly_is_as_asked(portraits: Path, tmp_path: Path) -> None:
    write_masked(read_table([portraits]), tmp_path / "right", MaskPlan(2, 0.0, 0), processes=1)
    write_masked(read_table([portraits]), tmp_path / "wrong", MaskPlan(2, 1.0, 0), processes=1)
    assert read_table([tmp_path / "right"])["mask"].value_counts().to_dict() == {"wear": 12, "normal": 6}
    assert read_table([tmp_path / "wrong"])["mask"].value_counts().to_dict() == {"incorrect": 12, "normal": 6}


def test_the_same_seed_draws_the_same_with_any_number_of_processes(portraits: Path, tmp_path: Path) -> None:
    for name, seed, processes in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        write_masked(read_table([portraits]), tmp_path / name, MaskPlan(2, 0.5, seed), processes)
    files = {name: files_in(tmp_path / name / "images") for name in ("one", "two", "other")}
    assert files["one"] == files["two"] != files["other"]


def test_only_bare_faces_are_drawn_on() -> None:
    table = pd.DataFrame({"path": ["a", "b", "c"], "mask": ["wear", "normal", None]})
    assert bare_faces(table)["path"].tolist() == ["b", "c"]
    with pytest.raises(InputError, match="no image of a bare face"):
        bare_faces(table[:1])


def test_no_face_is_lost_where_everybody_has_a_file_of_the_same_name(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_masked(bare_faces(read_table([people])), out, MaskPlan(2, 0.5, 0), processes=1) == 9
    table = read_table([out])
    assert len(set(table["path"])) == len(list((out / "images").iterdir())) == 9
    assert table.groupby("person")["age"].agg(list).tolist() == [[20] * 3, [40] * 3, [70] * 3]
    for _, row in table[table["mask"] == "normal"].iterrows():
        person = next(name for name in PEOPLE if row["person"].endswith(name))
        with Image.open(people / "images" / person / "normal.jpg") as own, Image.open(row["path"]) as bare:
            difference = np.abs(np.asarray(own, float) - np.asarray(bare, float)).mean()
        assert difference < 5  # written as JPEG once more; that of another's noise is 40 and more


def test_what_is_drawn_does_not_depend_on_where_the_folder_lies(people: Path, tmp_path: Path) -> None:
    write_masked(bare_faces(read_table([people])), tmp_path / "here", MaskPlan(2, 0.5, 0), processes=1)
    moved = people.rename(tmp_path / "elsewhere")
    write_masked(bare_faces(read_table([moved])), tmp_path / "there", MaskPlan(2, 0.5, 0), processes=1)
    assert files_in(tmp_path / "here" / "images") == files_in(tmp_path / "there" / "images")


def test_a_file_name_of_its_own_is_all_that_counts(portraits: Path, people: Path, tmp_path: Path) -> None:
    """What was drawn once is drawn again when other images are given too."""
    write_masked(read_table([portraits]), tmp_path / "alone", MaskPlan(1, 0.5, 0), processes=1)
    both = bare_faces(read_table([portraits, people]))
    write_masked(both, tmp_path / "with_others", MaskPlan(1, 0.5, 0), processes=1)
    alone, with_others = (files_in(tmp_path / name / "images") for name in ("alone", "with_others"))
    assert alone.items() <= with_others.items()
    assert hashlib.sha256(b"0.png").hexdigest()[:20] + "_bare.jpg" in alone


@pytest.mark.parametrize("processes", [1, 2])
def test_all_broken_portraits_are_told_and_the_same_command_works_once_they_are_gone(
    portraits: Path, tmp_path: Path, processes: int
) -> None:
    out, plan, table = tmp_path / "out", MaskPlan(1, 0.5, 0), read_table([portraits])
    for name in ("2.png", "5.png"):
        whole = (portraits / "images" / name).read_bytes()
        (portraits / "images" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be decoded; replace or remove them") as refused:
        write_masked(table, out, plan, processes)
    assert [f"{number}.png" in str(refused.value) for number in range(6)] == [
        *(False, False, True),
        *(False, False, True),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["portraits"]
    assert write_masked(table.drop([2, 5]).reset_index(drop=True), out, plan, processes) == 8


def test_a_folder_appears_only_when_complete(
    portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        assert not (tmp_path / "out").exists()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("data.masked.write_text", full)
    with pytest.raises(OSError, match="No space left") as failed:
        write_masked(read_table([portraits]), tmp_path / "out", MaskPlan(1, 0.5, 0), processes=1)
    assert failed.value.filename == str(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["portraits"]


def test_a_folder_with_files_is_refused(portraits: Path) -> None:
    before = files_in(portraits)
    with pytest.raises(InputError, match="not an empty folder; name a new folder or remove it first"):
        write_masked(read_table([portraits]), portraits, MaskPlan(1, 0.5, 0), processes=1)
    assert files_in(portraits) == before


def test_who_is_drawn_stays_in_the_fold_of_the_images_that_were_drawn_on(people: Path, tmp_path: Path) -> None:
    write_masked(bare_faces(read_table([people])), tmp_path / "masked", MaskPlan(1, 0.5, 0), processes=1)
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
