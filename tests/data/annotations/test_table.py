"""The challenge's folders and CSV files become one table; all problems are reported at once."""

import os
from pathlib import Path

import pandas as pd
import pytest

from data.annotations.table import (
    DERIVED_FROM,
    MASK_OF_SHOT,
    ORIGINAL_SOURCE,
    OWN_COLUMNS,
    PATH_COLUMNS,
    PERSON_COLUMNS,
    number_people,
    read_table,
)
from data.runtime.errors import InputError

EXTENSIONS = (".jpg", ".JPG", ".jpeg", ".png", ".PNG", ".Jpeg", ".webp")
PEOPLE = ("000001_male_Asian_20", "000001_female_Asian_60", "001498-1_female_Asian_35")
AGE_EXPECTED = "expected a whole number of years from 0 to 120"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def make_people(train: Path, people=PEOPLE, shots=tuple(MASK_OF_SHOT)) -> Path:
    for person in people:
        names = [f"{shot}{extension}" for shot, extension in zip(shots, EXTENSIONS, strict=False)]
        touch(train / "images" / person, *names)
    return train


def make_csv(folder: Path, text: str, *files: str, name="labels.csv") -> Path:
    touch(folder / "images", ".hidden", *files)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def problems_of(*sources: Path) -> list[str]:
    with pytest.raises(InputError) as raised:
        read_table(sources)
    return [line.strip() for line in str(raised.value).splitlines()[1:]]


def test_challenge_labels_follow_folder_and_file_names(tmp_path):
    table = read_table([make_people(tmp_path / "train")])
    assert list(table.columns) == ["source", "path", "person", "shot", "id", "age", "gender", "race", "mask"]
    assert len(table) == 21
    [row] = table[(table["id"] == "001498-1") & (table["shot"] == "incorrect_mask")].to_dict("records")
    assert (row["gender"], row["race"], row["age"], row["mask"]) == ("female", "Asian", 35.0, "incorrect")
    assert row["path"] == f"{row['source']}/images/001498-1_female_Asian_35/incorrect_mask.Jpeg"
    assert table["mask"].value_counts().to_dict() == {"wear": 15, "incorrect": 3, "normal": 3}
    assert sorted(table["person"].unique()) == sorted(PEOPLE), "ids are not unique"


def test_train_its_images_and_the_folder_above_give_the_same_table(tmp_path, monkeypatch):
    train = make_people(tmp_path / "train")
    expected = read_table([train])
    touch(train, "train.csv", "images/.DS_Store", "images/.ipynb_checkpoints/a.jpg")
    touch(train / "images" / PEOPLE[0], "._mask1.jpg", "Thumbs.db")
    monkeypatch.chdir(tmp_path)
    for source in (train, train / "images", tmp_path, Path(f"{train}/../train/"), Path("train/images")):
        pd.testing.assert_frame_equal(read_table([source]), expected)


def test_all_bad_folders_and_files_are_reported(tmp_path):
    train = make_people(tmp_path / "train", people=PEOPLE[:1], shots=("mask1",))
    images = train / "images"
    for name in ("nobody", "2_man_Asian_30", "3_male_Asian_3O"):
        touch(images, f"{name}/normal.png")
    for name in ("6_male_Asian_30", f"{PEOPLE[0]}/inner"):
        (images / name).mkdir()
    touch(images, "stray.jpg", *(f"{PEOPLE[0]}/{name}" for name in ("mask1.png", "mask6.jpg", "normal.txt")))
    problems = problems_of(train, tmp_path / "missing")
    expected = [
        ("nobody", "found 'nobody', expected a folder <id>_<gender>_<race>_<age>"),
        ("2_man_Asian_30", "gender='man', expected male or female"),
        ("3_male_Asian_3O", f"age='3O', {AGE_EXPECTED}"),
        ("6_male_Asian_30", "no images, expected one of mask1, mask2"),
        ("stray.jpg", "an image outside a person's folder"),
        ("mask1.png", "shot='mask1' twice, also"),
        ("mask6.jpg", "shot='mask6', expected one of mask1, mask2"),
        ("normal.txt", "not an image extension"),
        ("inner", "a folder inside a person's folder"),
        (str(tmp_path / "missing"), "no such folder or file"),
    ]
    assert len(problems) == len(expected)
    for place, message in expected:
        assert any(f"{place}: {message}" in line for line in problems), (place, message)


def test_sources_of_another_kind_are_refused(tmp_path):
    assert "name one with --data" in problems_of()[0]
    assert "no images, expected a folder <id>_<gender>_<race>_<age>" in problems_of(tmp_path)[0]
    touch(tmp_path, "notes.txt")
    assert "expected a data folder or a CSV file" in problems_of(tmp_path / "notes.txt")[0]
    touch(tmp_path / "classes", "wear/1.jpg", "wear/2.jpg", "normal/3.jpg")
    [problem] = problems_of(tmp_path / "classes")
    assert "neither labels.csv nor a person's folder" in problem
    assert problem.endswith(
        "write labels.csv (path, age, ...) beside images/, or name folders of classes as LABEL=FOLDER"
    )


def test_folders_of_class_folders_are_read_with_their_label(tmp_path, monkeypatch):
    touch(tmp_path / "masks", "wear/1.jpg", "wear/2 of them.JPG", "no/1.png", ".git/x.jpg", "notes.txt", "no/Thumbs.db")
    touch(tmp_path / "hats", "yes/1.jpg")
    monkeypatch.chdir(tmp_path)
    table = read_table([Path("mask=masks"), Path(f"hat={tmp_path}/hats")])
    names = ["no/1.png", "wear/1.jpg", "wear/2 of them.JPG", "yes/1.jpg"]
    sources = [*[f"{tmp_path}/masks"] * 3, f"{tmp_path}/hats"]
    assert table["path"].tolist() == [f"{source}/{name}" for source, name in zip(sources, names, strict=True)]
    assert (table["person"].tolist(), table["source"].tolist()) == (names, sources)
    assert table["mask"].fillna("-").tolist() == ["no", "wear", "wear", "-"]
    assert table["hat"].fillna("-").tolist() == ["-", "-", "-", "yes"]
    (tmp_path / "mask=masks").mkdir()
    [problem] = problems_of(Path("mask=masks"))
    assert problem.startswith(f"{tmp_path}/mask=masks: no images")


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (["notes.txt"], ": no sub-folders, expected one with images for each class of mask"),
        (["wear/1.jpg", "2.jpg"], "/2.jpg: an image outside a class folder, expected it in one"),
        (["wear/1.jpg", "no/a.txt"], "/no: no images, expected those of class 'no'; remove the folder or fill it"),
        (["wear/1.jpg", "wear/ann/1.jpg"], "/wear/ann: a folder inside a class folder, expected images only"),
    ],
)
def test_bad_class_folders_are_refused(tmp_path, files, problem):
    touch(tmp_path / "classes", *files)
    assert problems_of(Path(f"mask={tmp_path}/classes")) == [f"{tmp_path}/classes{problem}"]
    assert problems_of(Path(f"mask={tmp_path}/absent")) == [f"mask={tmp_path}/absent: no such folder"]
    for label in (*OWN_COLUMNS, *PATH_COLUMNS, *PERSON_COLUMNS, DERIVED_FROM, ORIGINAL_SOURCE, "age"):
        assert problems_of(Path(f"{label}={tmp_path}/classes"))[0].startswith(
            f"{label}={tmp_path}/classes: {label} has no"
        )


def test_a_name_that_is_not_utf_8_is_a_name(tmp_path):
    person = os.fsdecode(b"000009_male_Asi\xe9n_34")
    table = read_table([make_people(tmp_path / "train", people=(*PEOPLE, person))])
    assert person in table["person"].tolist()
    assert len(set(number_people(table).tolist())) == len(PEOPLE) + 1
    assert pd.get_option("mode.string_storage") == "auto", "reading changes no option of pandas"


@pytest.mark.parametrize(
    ("column", "group"), [("path", "person"), ("image", "group"), ("file", "x"), ("ImageID", "family")]
)
def test_csv_keeps_text_and_reads_age_and_person(tmp_path, column, group):
    text = f"\ufeff{column},age,id,source,shot,{group}\nb.jpg,,007,,,p\nsub/a.jpg,034.0,008,web,normal,p\n"
    table = read_table([make_csv(tmp_path / "faces", text, "b.jpg", "sub/a.jpg")])
    assert table["path"].tolist() == [str(tmp_path / "faces/images" / file) for file in ("b.jpg", "sub/a.jpg")]
    expected = {"id": ["007", "008"], "age": [None, 34], "shot": [None, "normal"], "csv_source": [None, "web"]}
    expected["person"] = ["p", "p"] if group in ("person", "group") else ["b.jpg", "sub/a.jpg"]
    assert table[list(expected)].astype(object).where(table[list(expected)].notna(), None).to_dict("list") == expected


def test_a_folders_csv_looks_in_images_first_and_a_csv_file_beside_itself(tmp_path):
    folder = make_csv(tmp_path, "path\na.jpg\nimages/anna/1.jpg\nc.jpg\n", "a.jpg", "anna/1.jpg", "c.jpg")
    touch(folder, "c.jpg")
    expected = [str(folder / "images" / name) for name in ("a.jpg", "anna/1.jpg")]
    assert read_table([folder])["path"].tolist() == [*expected, str(folder / "images/c.jpg")]
    table = read_table([folder / "labels.csv"])
    assert table["path"].tolist() == [str(folder / "c.jpg"), *expected]
    assert table["source"].unique().tolist() == [str(folder / "labels.csv")]


def test_all_bad_csv_rows_are_reported_with_file_and_line(tmp_path):
    lines = ["path,age", "a.jpg,20", "gone.jpg,20", "b.jpg,3O", "b.jpg,20", "../a.jpg,20", "/etc/a.jpg,20"]
    lines += [r"..\a.jpg,20", "c.jpg", ",20", "a\0.jpg,20"]
    ages = ["121", "30.5", "-1", "NaN", "inf", "1e2", "\uff13\uff14", '"34,5"', "9" * 400, "0x22"]
    lines += [f"{row}.jpg,{age}" for row, age in enumerate(ages)]
    folder = make_csv(tmp_path, "\n".join(lines), "a.jpg", "b.jpg", *(f"{row}.jpg" for row in range(len(ages))))
    inside = "expected a path inside the image folder, without '..' and not absolute"
    expected = [
        f"3: path='gone.jpg', no such file in {folder / 'images'} or {folder}",
        f"4: age='3O', {AGE_EXPECTED}",
        "5: path='b.jpg', is already on line 4",
        f"6: path='../a.jpg', {inside}",
        f"7: path='/etc/a.jpg', {inside}",
        f"8: path='..{chr(92) * 2}a.jpg', {inside}",
        "9: 1 values, expected 2",
        "10: path='', expected an image's path",
        f"11: path='a{chr(92)}x00.jpg', {inside}",
        *(f"{line}: age={age.strip(chr(34))!r}, {AGE_EXPECTED}" for line, age in enumerate(ages, 12)),
    ]
    problems = problems_of(folder)
    assert sorted(problems) == sorted(f"{folder / 'labels.csv'}:{problem}" for problem in expected)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name,age\na.jpg,3\n", ":1: columns name, age, expected one of path, image, file, ImageID"),
        ("path,age\n", ": no rows, expected one line per image"),
        ("path,Person\na.jpg,anna\n", ":1: column 'Person', expected 'person'; rename it"),
        ('path,note,age\na.jpg,"two\nlines",3O\n', f":3: age='3O', {AGE_EXPECTED}"),
    ],
)
def test_a_csv_without_labels_is_refused(tmp_path, text, problem):
    [found] = problems_of(make_csv(tmp_path, text, "a.jpg"))
    assert found.startswith(f"{tmp_path / 'labels.csv'}{problem}")


def test_a_persons_name_depends_on_neither_place_nor_other_images_or_sources(tmp_path):
    first, moved = make_people(tmp_path / "a/train"), make_people(tmp_path / "b/renamed", PEOPLE[1:])
    other = make_csv(tmp_path / "faces", "path,mask\na.jpg,wear\n", "a.jpg")
    assert sorted(set(read_table([first])["person"])) == sorted(PEOPLE)
    assert sorted(set(read_table([moved, other])["person"])) == sorted([*PEOPLE[1:], "a.jpg"])


@pytest.mark.parametrize(
    ("person", "name", "original"),
    [
        ("train-0123abcd/anna", "anna", "train"),
        ("m1-89abcdef-2/train-0123abcd/anna", "anna", "train"),
        ("faces-0123abcd/cam-20240131/1.jpg", "cam-20240131/1.jpg", "faces"),
        ("anna", "anna", None),
    ],
)
def test_people_of_masks_that_0_1_drew_are_the_originals(tmp_path, person, name, original):
    drawn, own = "0123456789abcdef0123_0_worn.jpg", "1.jpg"
    text = f"path,person,mask\n{drawn},{person},wear\n{own},{person},wear\n"
    table = read_table([make_csv(tmp_path / "faces", text, drawn, own)]).set_index("path")
    rows = {Path(path).name: row for path, row in table.iterrows()}
    assert rows[drawn]["person"] == name
    assert rows[own]["person"] == person, "only what data.masked wrote"
    if original:
        assert rows[drawn]["original_source"] == original


def test_people_of_sources_with_the_same_names_are_two_and_an_image_given_twice_is_refused(tmp_path):
    sources = [make_people(tmp_path / place / "train") for place in ("a", "copy")]
    sources += [make_people(tmp_path / "b/train", PEOPLE[:2])]
    table = read_table(sources)
    assert len(set(number_people(table))) == 8
    assert table.index.equals(pd.RangeIndex(len(table)))
    (tmp_path / "link").symlink_to(sources[0])
    for again in (sources[0] / "images", tmp_path / "link"):
        assert "given by" in problems_of(sources[0], again)[0]
