"""The challenge's folders and CSV files become one table; everything wrong is told at once."""

import os
from pathlib import Path

import pandas as pd
import pytest

from data.annotations.challenge import MASK_OF_SHOT
from data.annotations.folds import assign_folds
from data.annotations.table import person_name, read_table
from data.runtime.errors import InputError

EXTENSIONS = (".jpg", ".JPG", ".jpeg", ".png", ".PNG", ".Jpeg", ".webp")
PEOPLE = ("000001_male_Asian_20", "000001_female_Asian_60", "001498-1_female_Asian_35")


def make_people(train: Path, people=PEOPLE, shots=tuple(MASK_OF_SHOT)) -> Path:
    for person in people:
        folder = train / "images" / person
        folder.mkdir(parents=True)
        for shot, extension in zip(shots, EXTENSIONS, strict=False):
            (folder / f"{shot}{extension}").touch()
    return train


def make_csv(folder: Path, text: str, files=(), name="labels.csv") -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / "images" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / file).touch()
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def problems_of(*sources: Path) -> list[str]:
    with pytest.raises(InputError) as raised:
        read_table(sources)
    return str(raised.value).splitlines()[1:]


def test_challenge_labels_follow_folder_and_file_names(tmp_path):
    table = read_table([make_people(tmp_path / "train")])
    assert list(table.columns) == ["source", "path", "person", "shot", "id", "age", "gender", "race", "mask"]
    assert len(table) == 21
    row = table[(table["id"] == "001498-1") & (table["shot"] == "incorrect_mask")].iloc[0]
    assert (row["gender"], row["race"], row["age"], row["mask"]) == ("female", "Asian", 35.0, "incorrect")
    assert row["source"] == str(tmp_path / "train")
    assert row["path"] == str(tmp_path / "train/images/001498-1_female_Asian_35/incorrect_mask.Jpeg")
    assert table["mask"].value_counts().to_dict() == {"wear": 15, "incorrect": 3, "normal": 3}
    assert table["age"].dtype == "float64"


def test_a_person_is_a_folder_not_an_id(tmp_path):
    table = read_table([make_people(tmp_path / "train")])
    assert table["id"].nunique() == 2
    assert sorted(table["person"].map(person_name).unique()) == sorted(PEOPLE)


def test_train_its_images_and_the_folder_above_give_the_same_table(tmp_path):
    train = make_people(tmp_path / "train")
    expected = read_table([train])
    for source in (train / "images", tmp_path, Path(f"{train}/../train/")):
        pd.testing.assert_frame_equal(read_table([source]), expected)


def test_a_relative_path_gives_the_same_table(tmp_path, monkeypatch):
    expected = read_table([make_people(tmp_path / "train")])
    monkeypatch.chdir(tmp_path)
    pd.testing.assert_frame_equal(read_table([Path("train/images")]), expected)


def test_hidden_files_and_notes_are_ignored(tmp_path):
    train = make_people(tmp_path / "train")
    expected = read_table([train])
    (train / "train.csv").touch()
    (train / "images/.DS_Store").touch()
    (train / "images/._000001_male_Asian_20").mkdir()
    (train / "images/.ipynb_checkpoints").mkdir()
    (train / "images" / PEOPLE[0] / "._mask1.jpg").touch()
    (train / "images" / PEOPLE[0] / "Thumbs.db").touch()
    pd.testing.assert_frame_equal(read_table([train]), expected)


def test_fewer_than_seven_images_are_fine(tmp_path):
    table = read_table([make_people(tmp_path / "train", shots=("mask1", "mask2"))])
    assert table["shot"].tolist() == ["mask1", "mask2"] * 3


def test_every_wrong_folder_and_file_is_told_at_once(tmp_path):
    train = make_people(tmp_path / "train", people=PEOPLE[:1], shots=("mask1",))
    images = train / "images"
    for name in ("nobody", "2_man_Asian_30", "3_male_Asian_3O", "4_male_Asian_121", "5_male_Asian_-1"):
        (images / name).mkdir()
        (images / name / "normal.png").touch()
    (images / "6_male_Asian_30").mkdir()
    (images / "stray.jpg").touch()
    for name in ("mask1.png", "mask6.jpg", "normal.txt"):
        (images / PEOPLE[0] / name).touch()
    (images / PEOPLE[0] / "inner").mkdir()
    told = problems_of(train, tmp_path / "missing")
    expected = [
        ("nobody", "found 'nobody', expected a folder <id>_<gender>_<race>_<age>"),
        ("2_man_Asian_30", "gender='man', expected male or female"),
        ("3_male_Asian_3O", "age='3O', expected a whole number of years from 0 to 120"),
        ("4_male_Asian_121", "age='121', expected a whole number of years from 0 to 120"),
        ("5_male_Asian_-1", "age='-1', expected a whole number of years from 0 to 120"),
        ("6_male_Asian_30", "no images, expected one of mask1, mask2"),
        ("stray.jpg", "an image outside a person's folder"),
        ("mask1.png", "shot='mask1' twice, also"),
        ("mask6.jpg", "shot='mask6', expected one of mask1, mask2"),
        ("normal.txt", "not an image extension"),
        ("inner", "a folder inside a person's folder"),
        (str(tmp_path / "missing"), "no such folder or file"),
    ]
    assert len(told) == len(expected)
    for place, message in expected:
        assert any(f"{place}: {message}" in line for line in told), (place, message)


def test_class_folders_are_told_once_with_what_to_write(tmp_path):
    for name in ("wear/1.jpg", "wear/2.jpg", "normal/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    [told] = problems_of(tmp_path)
    assert told.startswith(f"  {tmp_path}: neither labels.csv nor a person's folder, expected a folder <id>_")
    assert told.endswith("; for other images write labels.csv (path, age, ...) beside images/")


def test_a_name_that_is_not_utf_8_is_a_name(tmp_path):
    person = os.fsdecode(b"000009_male_Asi\xe9n_34")
    train = make_people(tmp_path / "train", people=(*PEOPLE, person))
    table = read_table([train])
    assert person in table["person"].map(person_name).tolist()
    fold = assign_folds(table, 2, {"gender": []}, seed=0)
    assert table.assign(fold=fold).groupby("person")["fold"].nunique().tolist() == [1] * 4


def test_an_empty_folder_and_no_folder_are_told(tmp_path):
    assert "no images, expected a folder <id>_<gender>_<race>_<age>" in problems_of(tmp_path)[0]
    assert "name one with --data" in problems_of()[0]
    (tmp_path / "notes.txt").touch()
    assert "expected a data folder or a CSV file" in problems_of(tmp_path / "notes.txt")[0]


@pytest.mark.parametrize("column", ["path", "image", "file", "ImageID"])
def test_csv_keeps_text_and_reads_age(tmp_path, column):
    text = f"\ufeff{column},age,id,glasses\nb.jpg,,007,\nsub/a.jpg,034,008,no\n"
    table = read_table([make_csv(tmp_path / "faces", text, ["b.jpg", "sub/a.jpg"])])
    assert table["path"].tolist() == [str(tmp_path / "faces/images" / file) for file in ("b.jpg", "sub/a.jpg")]
    assert table["id"].tolist() == ["007", "008"]
    assert table["age"].isna().tolist() == [True, False]
    assert table["age"][1] == 34.0
    assert table["glasses"].isna().tolist() == [True, False]
    assert table["glasses"][1] == "no"
    assert table["shot"].isna().all()
    assert table["person"].map(person_name).tolist() == ["b.jpg", "sub/a.jpg"]


@pytest.mark.parametrize(
    ("columns", "people"),
    [("person,group", ["p", "p"]), ("group,x", ["p", "p"]), ("x,y", ["a.jpg", "b.jpg"])],
)
def test_csv_person_is_person_else_group_else_the_image(tmp_path, columns, people):
    text = f"path,{columns}\na.jpg,p,1\nb.jpg,p,2\n"
    table = read_table([make_csv(tmp_path / "faces", text, ["a.jpg", "b.jpg"])])
    assert table["person"].map(person_name).tolist() == people


def test_csv_columns_that_share_a_name_with_the_tables_own(tmp_path):
    text = "path,file,source,shot\na.jpg,x,web,normal\n"
    row = read_table([make_csv(tmp_path / "faces", text, ["a.jpg"])]).iloc[0]
    assert row["source"] == str(tmp_path / "faces")
    assert (row["csv_source"], row["file"], row["shot"]) == ("web", "x", "normal")


def test_a_folder_s_csv_looks_in_images_then_beside_itself(tmp_path):
    text = "path\na.jpg\nimages/anna/1.jpg\n"
    folder = make_csv(tmp_path / "faces", text, ["a.jpg", "anna/1.jpg"])
    expected = [str(folder / "images/a.jpg"), str(folder / "images/anna/1.jpg")]
    assert read_table([folder])["path"].tolist() == expected
    assert read_table([folder / "labels.csv"])["path"].tolist() == expected


def test_csv_file_looks_beside_itself_then_in_images(tmp_path):
    folder = make_csv(tmp_path, "image\nbeside.jpg\nwithin.jpg\n", ["within.jpg"], name="ages.csv")
    (folder / "beside.jpg").touch()
    table = read_table([folder / "ages.csv"])
    assert table["path"].tolist() == [str(tmp_path / "beside.jpg"), str(tmp_path / "images/within.jpg")]
    assert table["source"].unique().tolist() == [str(tmp_path / "ages.csv")]


def test_every_wrong_csv_row_is_told_with_file_and_line(tmp_path):
    lines = ["path,age", "a.jpg,20", "gone.jpg,20", "b.jpg,3O", "b.jpg,20", "../a.jpg,20", "/etc/a.jpg,20"]
    lines += [r"..\a.jpg,20", "c.jpg", ",20", "d.jpg,121", "e.jpg,30.5"]
    files = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    folder = make_csv(tmp_path / "faces", "\n".join(lines), files)
    told = sorted(problems_of(folder), key=lambda line: int(line.split("labels.csv:")[1].split(":")[0]))
    inside = "expected a path inside the image folder"
    expected = [
        f"3: path='gone.jpg', no such file in {folder / 'images'}",
        "4: age='3O', expected a whole number of years from 0 to 120",
        "5: path='b.jpg', is already on line 4",
        f"6: path='../a.jpg', {inside}",
        f"7: path='/etc/a.jpg', {inside}",
        f"8: path={chr(39)}..{chr(92) * 2}a.jpg{chr(39)}, {inside}",
        "9: 1 values, expected 2",
        "10: path='', expected an image's path",
        "11: age='121', expected a whole number of years from 0 to 120",
        "12: age='30.5', expected a whole number of years from 0 to 120",
    ]
    assert len(told) == len(expected)
    for line, message in zip(told, expected, strict=True):
        assert line.strip().startswith(f"{folder / 'labels.csv'}:{message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,age\na.jpg,3\n", "columns name, age, expected one of path, image, file, ImageID"),
        (b"path,age,age\na.jpg,3,4\n", "columns age come twice"),
        (b"", "no line with column names"),
        (b"path,age\n", "no rows"),
        (b"path,Person\na.jpg,anna\n", "column 'Person', expected 'person'; rename it"),
        (b"path,person,AGE\na.jpg,anna,3\n", "column 'AGE', expected 'age'; rename it"),
        (b"path,age\n\xff\xfe.jpg,3\n", "not a CSV file in UTF-8"),
        (b'path,age\n"a.jpg,3\n', "not a CSV file in UTF-8"),
    ],
)
def test_a_csv_without_a_readable_table_is_told(tmp_path, content, message):
    make_csv(tmp_path, "").joinpath("labels.csv").write_bytes(content)
    assert any(message in line for line in problems_of(tmp_path))


def test_people_of_sources_with_the_same_names_stay_apart(tmp_path):
    sources = [make_people(tmp_path / "a/train"), make_people(tmp_path / "b/train", PEOPLE[:2])]
    sources += [make_people(tmp_path / "copy/train")]
    table = read_table(sources)
    assert table.groupby("person")["source"].nunique().max() == 1
    assert table["person"].nunique() == 8
    assert table.index.equals(pd.RangeIndex(len(table)))


def test_a_persons_name_depends_on_neither_place_nor_other_sources(tmp_path):
    first, moved = make_people(tmp_path / "a/train"), make_people(tmp_path / "b/train")
    other = make_csv(tmp_path / "faces", "path,mask\na.jpg,wear\n", ["a.jpg"])
    alone = read_table([first])["person"].tolist()
    assert read_table([moved])["person"].tolist() == alone
    both = read_table([other, first])
    assert both["person"][both["source"] == str(first)].tolist() == alone
    assert both["age"].isna().tolist() == [True] + [False] * 21


def test_a_image_given_twice_is_told(tmp_path):
    train = make_people(tmp_path / "train", PEOPLE[:1], ("normal",))
    (tmp_path / "link").symlink_to(train)
    for again in (train / "images", tmp_path / "link"):
        assert "given by" in problems_of(train, again)[0]
