"""Corrections change the labels that they name, once or twice the same, or are refused as a whole."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.annotations.corrections import apply_corrections, image_names
from data.annotations.table import MASK_OF_SHOT
from data.runtime.errors import InputError

SHIPPED = Path(__file__).parents[3] / "configs/corrections/boostcamp.csv"
MALE = ["000225", "000664", "000767", "001509", "003113", "003223", "004281"]
MALE += ["006359", "006360", "006361", "006362", "006363", "006364", "006424"]
FEMALE, SWAPPED = ["001498-1", "004432", "005223"], ["000020", "004418", "005227"]
AGES = {"001009": 20, "001064": 20, "001637": 20, "001666": 20, "001852": 20, "004348": 60}
HEADER, NAMED = "person,column,value,shot", "person,column,value,photograph"


def make_table(people: list[tuple[str, str, float]]) -> pd.DataFrame:
    rows = []
    for identity, gender, age in people:
        name = f"{identity}_{gender}_Asian_{age:.0f}"
        for shot, mask in MASK_OF_SHOT.items():
            row = {"source": "/train", "path": f"/train/images/{name}/{shot}.jpg", "person": name}
            rows.append({**row, "shot": shot, "id": identity, "age": age, "gender": gender, "mask": mask})
    return pd.DataFrame(rows)


def make_masks(folder: str, images: dict[str, tuple[str, str | None]]) -> pd.DataFrame:
    """A table of images without shots: (person, mask) by path in the folder."""
    rows = [(folder, f"{folder}/{name}", *of) for name, of in images.items()]
    return pd.DataFrame(rows, columns=["source", "path", "person", "mask"]).assign(shot=None)


TABLE = make_table([("01", "male", 20.0), ("02", "female", 30.0), ("02", "male", 40.0), ("03-1", "male", 50.0)])
ANNA_AND_BEN = {"anna_bare.jpg": ("anna", "normal"), "anna_wear.jpg": ("anna", "wear")}
ANNA_AND_BEN |= {"a/1.jpg": ("ben", "normal"), "b/1.jpg": ("ben", "wear")}


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "fixes.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def problems_of(table: pd.DataFrame, path: Path) -> list[str]:
    with pytest.raises(InputError) as raised:
        apply_corrections(table, path)
    return [line.removeprefix(f"  {path}:") for line in str(raised.value).splitlines()[1:]]


def test_only_the_named_labels_change_and_the_given_table_stays(tmp_path):
    before = TABLE.copy()
    lines = ["01,gender,female,", "03-1_male_Asian_50,age,20,", "03-1,mask,wear,normal"]
    fixed = apply_corrections(TABLE, write(tmp_path, *lines, "train-0123abcd/02_male_Asian_40,gender,female,"))
    pd.testing.assert_frame_equal(TABLE, before)
    expected = TABLE.copy()
    expected.loc[(expected["id"] == "01") | (expected["age"] == 40), "gender"] = "female"
    expected.loc[expected["id"] == "03-1", "age"] = 20.0
    expected.loc[(expected["id"] == "03-1") & (expected["shot"] == "normal"), "mask"] = "wear"
    pd.testing.assert_frame_equal(fixed, expected)
    pd.testing.assert_frame_equal(apply_corrections(fixed, tmp_path / "fixes.csv"), fixed)


def test_an_image_is_named_by_its_file_wherever_the_data_is(tmp_path):
    path = write(tmp_path, "anna,mask,incorrect,anna_bare.jpg", "ben,mask,incorrect,b/1.jpg", header=NAMED)
    for folder in ("/here/faces", "/moved/to/faces"):
        fixed = apply_corrections(make_masks(folder, ANNA_AND_BEN), path)
        assert fixed["mask"].tolist() == ["incorrect", "wear", "normal", "incorrect"]
    one_label = make_masks("/faces", {"a/1.jpg": ("ben", "wear"), "b/1.jpg": ("ben", None)})
    fixed = apply_corrections(one_label, write(tmp_path, "ben,mask,normal,1.jpg", header=NAMED))
    assert fixed["mask"].fillna("").tolist() == ["normal", ""]


def test_images_that_are_unknown_or_ambiguous_are_refused(tmp_path):
    lines = ["ben,mask,wear,1.jpg", "anna,mask,wear,bare.jpg", "anna,mask,normal,/faces/anna_bare.jpg"]
    lines += ["ben,mask,wear,a/1.jpg", "ben,mask,incorrect,faces/a/1.jpg"]
    has = "expected one that anna has: anna_bare.jpg, anna_wear.jpg"
    assert problems_of(make_masks("/faces", ANNA_AND_BEN), write(tmp_path, *lines, header=NAMED)) == [
        "2: photograph='1.jpg' is 2 that ben has, expected one of a/1.jpg, b/1.jpg",
        f"3: photograph='bare.jpg', {has}",
        f"4: photograph='/faces/anna_bare.jpg', {has}",
        "6: mask='incorrect' for ben, but 'wear' on line 5",
    ]


def test_people_of_one_name_in_two_sources_are_told_apart_by_the_sources_names(tmp_path):
    two = pd.concat([make_masks("/faces", ANNA_AND_BEN), make_masks("/others", ANNA_AND_BEN)], ignore_index=True)
    problem = "2: person='anna' is 2 people, expected one of faces/anna, others/anna"
    assert problems_of(two, write(tmp_path, "anna,mask,incorrect,")) == [problem]
    fixed = apply_corrections(two, write(tmp_path, "others/anna,mask,incorrect,"))
    assert fixed.index[fixed["mask"] == "incorrect"].tolist() == [4, 5]
    derived = two.assign(original_source=[None] * 4 + ["faces"] * 4)
    fixed = apply_corrections(derived, write(tmp_path, "anna,mask,incorrect,"))
    assert fixed.index[fixed["mask"] == "incorrect"].tolist() == [0, 1, 4, 5], "a derived image is of the same person"


folders = st.lists(st.sampled_from(["a", "b", "1.jpg"]), max_size=3)


@settings(max_examples=30, deadline=None)
@given(st.lists(folders, min_size=1, max_size=8, unique_by=tuple), st.data())
def test_each_name_means_its_image_alone(tmp_path_factory, places, data):
    people = data.draw(st.lists(st.sampled_from(["p", "q"]), min_size=len(places), max_size=len(places)))
    names = ["/".join([*place, "1.jpg"]) for place in places]
    table = make_masks("/data/faces", {n: (p, "normal") for n, p in zip(names, people, strict=True)})
    chosen = data.draw(st.integers(0, len(places) - 1))
    name = image_names(people, table["path"].tolist())[chosen]
    path = write(tmp_path_factory.getbasetemp(), f"{people[chosen]},mask,wear,{name}", header=NAMED)
    fixed = apply_corrections(table, path)
    assert fixed["mask"].eq("wear").tolist() == [i == chosen for i in range(len(places))]


def test_all_problems_are_reported(tmp_path):
    lines = ["99,gender,female,", "02,gender,female,", "01,gendr,female,", "01,person,x,", "01,age,3O,"]
    lines += ["01,gender,,", "01,mask,wear,mask9", "03-1,gender,male,", "03-1,gender,female,"]
    columns = "expected one of age, gender, mask"
    assert problems_of(TABLE, write(tmp_path, *lines)) == [
        "2: person='99' is nobody in the data, expected a person's folder name or id",
        "3: person='02' is 2 people, expected one of train/02_female_Asian_30, train/02_male_Asian_40",
        f"4: column='gendr', {columns}",
        f"5: column='person', {columns}",
        "6: age='3O', expected a whole number of years from 0 to 120",
        "7: no value for gender, expected the label that is right",
        f"8: shot='mask9', expected one that 01 has: {', '.join(MASK_OF_SHOT)}",
        "10: gender='female' for 03-1, but 'male' on line 9",
    ]
    for header in ("person,column", "person,column,value,shots"):
        [problem] = problems_of(TABLE, write(tmp_path, header=header))
        assert problem.endswith("expected person, column, value and, optionally, shot, photograph")


def test_the_shipped_corrections_are_the_published_ones():
    men = [(identity, "male", 25.0) for identity in [*FEMALE, *SWAPPED, *AGES, "000001"]]
    table = make_table([(identity, "female", 25.0) for identity in MALE] + men)
    fixed = apply_corrections(table, SHIPPED)
    changed = {column: sorted(set(table["id"][fixed[column] != table[column]])) for column in table.columns}
    changed = {column: people for column, people in changed.items() if people}
    assert changed == {"gender": sorted(MALE + FEMALE), "mask": SWAPPED, "age": sorted(AGES)}
    assert dict(zip(fixed["id"], fixed["age"], strict=True)).items() >= AGES.items()
    masks = fixed[fixed["id"].isin(SWAPPED)].set_index("shot")["mask"].to_dict()
    assert masks == {**MASK_OF_SHOT, "incorrect_mask": "normal", "normal": "incorrect"}
