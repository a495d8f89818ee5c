"""Label fixes are laid over the table, once or twice the same, and fit the data or are refused whole."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations.challenge import MASK_OF_SHOT
from data.annotations.corrections import apply_corrections, image_names
from data.annotations.table import read_table
from data.runtime.errors import InputError

SHIPPED = Path(__file__).parents[3] / "configs/corrections/boostcamp.csv"
MALE = ["000225", "000664", "000767", "001509", "003113", "003223", "004281"]
MALE += ["006359", "006360", "006361", "006362", "006363", "006364", "006424"]
FEMALE = ["001498-1", "004432", "005223"]
SWAPPED = ["000020", "004418", "005227"]
AGES = {"001009": 20, "001064": 20, "001637": 20, "001666": 20, "001852": 20, "004348": 60}


def make_table(people: list[tuple[str, str, float]]) -> pd.DataFrame:
    rows = []
    for identity, gender, age in people:
        name = f"{identity}_{gender}_Asian_{age:.0f}"
        for shot, mask in MASK_OF_SHOT.items():
            row = {
                "source": "/train",
                "path": f"/train/images/{name}/{shot}.jpg",
                "person": f"train-0/{name}",
            }
            rows.append({**row, "shot": shot, "id": identity, "age": age, "gender": gender, "mask": mask})
    return pd.DataFrame(rows)


TABLE = make_table([("01", "male", 20.0), ("02", "female", 30.0), ("02", "male", 40.0), ("03-1", "male", 50.0)])


def write(folder: Path, *lines: str, header="person,column,value,shot") -> Path:
    path = folder / "fixes.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_only_what_is_named_changes_and_the_table_given_stays(tmp_path):
    before = TABLE.copy()
    path = write(tmp_path, "01,gender,female,", "03-1_male_Asian_50,age,20,", "03-1,mask,wear,normal")
    fixed = apply_corrections(TABLE, path)
    pd.testing.assert_frame_equal(TABLE, before)
    expected = TABLE.copy()
    expected.loc[expected["id"] == "01", "gender"] = "female"
    expected.loc[expected["id"] == "03-1", "age"] = 20.0
    expected.loc[(expected["id"] == "03-1") & (expected["shot"] == "normal"), "mask"] = "wear"
    pd.testing.assert_frame_equal(fixed, expected)


def test_shot_is_optional_and_the_tables_person_is_a_name_too(tmp_path):
    path = write(tmp_path, "train-0/02_male_Asian_40,gender,female", header="person,column,value")
    fixed = apply_corrections(TABLE, path)
    assert fixed["gender"].ne(TABLE["gender"]).tolist() == (TABLE["age"] == 40).tolist()


NAMED = "person,column,value,photograph"


def labelled(folder: Path, lines: list[str]) -> pd.DataFrame:
    """The table of a folder with labels.csv, whose images have no shot."""
    for line in lines:
        image = folder / "images" / line.partition(",")[0]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"")
    (folder / "labels.csv").write_text("\n".join(["path,person,mask", *lines]), encoding="utf-8")
    return read_table([folder])


ANNA = ["anna_bare.jpg,anna,normal", "anna_wear.jpg,anna,wear", "a/1.jpg,ben,normal", "b/1.jpg,ben,wear"]


def test_a_image_is_named_by_its_file_and_others_of_the_person_stay(tmp_path):
    fixes = ["anna,mask,incorrect,anna_bare.jpg", "ben,mask,incorrect,b/1.jpg"]
    for folder in ("here/faces", "moved/to/faces"):
        table = labelled(tmp_path / folder, ANNA)
        fixed = apply_corrections(table, write(tmp_path, *fixes, header=NAMED))
        masks = {
            Path(p).relative_to(tmp_path / folder).as_posix(): m for p, m in fixed[["path", "mask"]].to_numpy()
        }
        assert masks == {
            "images/a/1.jpg": "normal",
            "images/anna_bare.jpg": "incorrect",
            "images/anna_wear.jpg": "wear",
            "images/b/1.jpg": "incorrect",
        }


def test_a_file_without_images_is_of_all_of_the_persons(tmp_path):
    table = labelled(tmp_path / "faces", ANNA)
    fixed = apply_corrections(table, write(tmp_path, "anna,mask,incorrect,"))
    assert fixed["mask"].tolist() == ["normal", "incorrect", "incorrect", "wear"]


def test_a_name_of_no_or_several_images_and_one_image_twice_are_told(tmp_path):
    table = labelled(tmp_path / "faces", ANNA)
    path = write(
        tmp_path,
        "ben,mask,wear,1.jpg",
        "anna,mask,wear,bare.jpg",
        f"anna,mask,normal,{tmp_path}/faces/images/anna_bare.jpg",
        "ben,mask,wear,a/1.jpg",
        "ben,mask,incorrect,images/a/1.jpg",
        header=NAMED,
    )
    with pytest.raises(InputError) as raised:
        apply_corrections(table, path)
    has = "expected one that anna has: anna_bare.jpg, anna_wear.jpg"
    assert str(raised.value).splitlines()[1:] == [
        f"  {path}:2: photograph='1.jpg' is 2 that ben has, expected one of a/1.jpg, b/1.jpg",
        f"  {path}:3: photograph='bare.jpg', {has}",
        f"  {path}:4: photograph='{tmp_path}/faces/images/anna_bare.jpg', {has}",
        f"  {path}:6: mask='incorrect' for ben, but line 5 says 'wear'",
    ]


def test_shot_and_image_both_hold(tmp_path):
    lines = ["01,mask,wear,normal,normal.jpg", "01,mask,wear,normal,mask1.jpg"]
    path = write(tmp_path, *lines, header="person,column,value,shot,photograph")
    with pytest.raises(InputError) as raised:
        apply_corrections(TABLE, path)
    told = "photograph='mask1.jpg', expected one that 01 has: normal.jpg"
    assert str(raised.value).splitlines()[1:] == [f"  {path}:3: {told}"]


folders = st.lists(st.sampled_from(["a", "b", "1.jpg"]), max_size=3)


@settings(max_examples=50, deadline=None)
@given(st.lists(folders, min_size=1, max_size=8, unique_by=tuple), st.data())
def test_each_name_means_its_image_alone(tmp_path_factory, places, data):
    paths = ["/".join(["/data/faces", *place, "1.jpg"]) for place in places]
    people = data.draw(st.lists(st.sampled_from(["p", "q"]), min_size=len(paths), max_size=len(paths)))
    table = pd.DataFrame({"source": "/data", "path": paths, "person": people, "shot": None, "mask": "normal"})
    chosen = data.draw(st.integers(0, len(paths) - 1))
    name = image_names(people, paths)[chosen]
    path = write(tmp_path_factory.mktemp("fixes"), f"{people[chosen]},mask,wear,{name}", header=NAMED)
    fixed = apply_corrections(table, path)
    assert fixed["mask"].eq("wear").tolist() == [i == chosen for i in range(len(paths))]


people = st.sampled_from(["01", "03-1", "02_male_Asian_40"])
labels = st.sampled_from(["gender,female", "gender,male", "age,33", "mask,wear", "mask,normal"])
fixes = st.tuples(people, labels, st.sampled_from(["", *MASK_OF_SHOT]))


@settings(max_examples=50, deadline=None)
@given(st.lists(fixes, max_size=6, unique_by=lambda fix: (fix[0], fix[1].split(",")[0], fix[2])))
def test_twice_is_once(tmp_path_factory, rows):
    path = write(tmp_path_factory.mktemp("fixes"), *(",".join(row) for row in rows))
    once = apply_corrections(TABLE, path)
    pd.testing.assert_frame_equal(apply_corrections(once, path), once)


def test_no_file_is_touched(tmp_path):
    folder = tmp_path / "images/01_male_Asian_20"
    folder.mkdir(parents=True)
    (folder / "normal.jpg").write_bytes(b"pixels")
    path = write(tmp_path, "01,gender,female,", "01,mask,incorrect,normal")

    def state() -> dict[Path, tuple[int, int]]:
        return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.rglob("*")}

    before = state()
    apply_corrections(TABLE, path)
    assert state() == before


def test_everything_wrong_is_told_at_once(tmp_path):
    path = write(
        tmp_path,
        "99,gender,female,",
        "02,gender,female,",
        "01,gendr,female,",
        "01,person,x,",
        "01,age,3O,",
        "01,gender,,",
        "01,mask,wear,mask9",
        "03-1,gender,male,",
        "03-1,gender,female,",
    )
    with pytest.raises(InputError) as raised:
        apply_corrections(TABLE, path)
    told = str(raised.value).splitlines()[1:]
    columns = "expected one of age, gender, mask"
    assert told == [
        f"  {path}:2: person='99' is nobody in the data, expected a person's folder name or id",
        f"  {path}:3: person='02' is 2 people, expected one of "
        "train-0/02_female_Asian_30, train-0/02_male_Asian_40",
        f"  {path}:4: column='gendr', {columns}",
        f"  {path}:5: column='person', {columns}",
        f"  {path}:6: age='3O', expected a whole number of years from 0 to 120",
        f"  {path}:7: no value for gender, expected the label that is right",
        f"  {path}:8: shot='mask9', expected one that 01 has: {', '.join(MASK_OF_SHOT)}",
        f"  {path}:10: gender='female' for 03-1, but line 9 says 'male'",
    ]


@pytest.mark.parametrize("header", ["person,column", "person,column,value,shots", "id,column,value"])
def test_a_wrong_header_is_told(tmp_path, header):
    with pytest.raises(InputError, match="expected person, column, value and, optionally, shot"):
        apply_corrections(TABLE, write(tmp_path, header=header))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: cannot be read"):
        apply_corrections(TABLE, tmp_path / "gone.csv")


def test_the_shipped_corrections_are_the_published_ones():
    people = [(identity, "female", 25.0) for identity in MALE] + [
        (identity, "male", 25.0) for identity in FEMALE
    ]
    people += [(identity, "male", 25.0) for identity in [*SWAPPED, *AGES, "000001"]]
    table = make_table(people)
    fixed = apply_corrections(table, SHIPPED)
    changed = {column: sorted(set(table["id"][fixed[column] != table[column]])) for column in table.columns}
    nothing: dict[str, list[str]] = {column: [] for column in table.columns}
    assert changed == {**nothing, "gender": sorted(MALE + FEMALE), "mask": SWAPPED, "age": sorted(AGES)}
    assert set(fixed["gender"][fixed["id"].isin(MALE)]) == {"male"}
    assert set(fixed["gender"][fixed["id"].isin(FEMALE)]) == {"female"}
    assert dict(zip(fixed["id"], fixed["age"], strict=True)).items() >= AGES.items()
    swapped = fixed[fixed["id"].isin(SWAPPED)]
    masks = dict(zip(swapped["shot"], swapped["mask"], strict=True))
    wanted = {**MASK_OF_SHOT, "incorrect_mask": "normal", "normal": "incorrect"}
    assert masks == wanted


def test_of_several_the_one_that_has_a_label_is_meant(tmp_path):
    table = labelled(tmp_path / "faces", ["a/1.jpg,ben,wear", "b/1.jpg,ben,"])
    fixed = apply_corrections(table, write(tmp_path, "ben,mask,normal,1.jpg", header=NAMED))
    assert fixed["mask"].fillna("").tolist() == ["normal", ""]
