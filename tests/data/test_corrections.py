"""Label fixes are laid over the table, once or twice the same, and fit the data or are refused whole."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.challenge import MASK_OF_SHOT
from data.corrections import apply_corrections
from data.errors import InputError

SHIPPED = Path(__file__).parents[2] / "configs/corrections/boostcamp.csv"
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
