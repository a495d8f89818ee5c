"""Right answers by name are those of the codes, which scikit-learn and NumPy make of the same labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import LabelEncoder

from data.runtime.errors import InputError
from ensemble.config import load_labels
from ensemble.files.ground_truth import read_ground_truth
from heads.config.task import Label, LabelPart

LABELS = load_labels(Path(__file__).parents[3] / "configs" / "joint.yaml")
MASKS, GENDERS = ["wear", "incorrect", "normal"], ["male", "female"]


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {
        "mask": rng.choice(MASKS, 50),
        "gender": rng.choice(GENDERS, 50),
        "age": rng.integers(18, 70, 50),
    }
    return pd.DataFrame({"ImageID": [f"{number}.jpg" for number in range(50)], **columns, "note": "x"})


def codes(table: pd.DataFrame) -> np.ndarray:
    digits = [table["mask"].map(MASKS.index), 1 - LabelEncoder().fit_transform(table["gender"])]
    return digits[0].to_numpy() * 6 + digits[1] * 3 + np.digitize(table["age"], [30, 60])


def test_labels_by_name_are_the_joint_codes(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "labels.csv", index=False)
    named = read_ground_truth(tmp_path / "labels.csv", LABELS)
    assert named["ImageID"].tolist() == table["ImageID"].tolist()
    assert named["ans"].tolist() == codes(table).tolist()
    table.assign(ans=codes(table)).to_csv(tmp_path / "codes.csv", index=False)
    pd.testing.assert_frame_equal(read_ground_truth(tmp_path / "codes.csv", LABELS), named, check_dtype=False)


def test_codes_go_before_names(table: pd.DataFrame, tmp_path: Path) -> None:
    table.assign(ans=17).to_csv(tmp_path / "both.csv", index=False)
    assert set(read_ground_truth(tmp_path / "both.csv", LABELS)["ans"]) == {17}


def test_a_joint_label_is_read_from_the_columns_of_its_parts(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "labels.csv", index=False)
    parts = [
        LabelPart(column=label.column or "", classes=label.classes, borders=label.borders)
        for label in LABELS.values()
    ]
    named = read_ground_truth(tmp_path / "labels.csv", {"joint18": Label(parts=parts)})
    assert named["ans"].tolist() == codes(table).tolist()


@pytest.mark.parametrize(
    ("row", "column", "value", "told"),
    [
        (3, "gender", "Female", "row 5: found 'Female', expected one of male, female"),
        (0, "age", "", "row 2: found '', expected a number from 0.* up"),
        (1, "age", "old", "row 3: found 'old', expected a number from 0.* up"),
        (2, "ImageID", "0.jpg", "0.jpg"),
    ],
)
def test_what_is_no_label_is_told_with_its_row(
    row: int, column: str, value: str, told: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    text = table.astype(str)
    text.loc[row, column] = value
    text.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(InputError, match=told):
        read_ground_truth(tmp_path / "labels.csv", LABELS)


def test_neither_codes_nor_all_names_are_told(table: pd.DataFrame, tmp_path: Path) -> None:
    table.drop(columns="gender").to_csv(tmp_path / "labels.csv", index=False)
    told = "found neither ans nor gender; expected ans, or mask, gender, age beside ImageID"
    with pytest.raises(InputError, match=told):
        read_ground_truth(tmp_path / "labels.csv", LABELS)
