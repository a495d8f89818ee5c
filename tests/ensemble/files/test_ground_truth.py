"""Ground truth by name gives the codes that scikit-learn and NumPy make of the same labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import LabelEncoder

from data.runtime.errors import InputError
from ensemble.config import load_labels
from ensemble.files.submission import read_ground_truth
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
    gender = 1 - LabelEncoder().fit_transform(table["gender"])
    return table["mask"].map(MASKS.index).to_numpy() * 6 + gender * 3 + np.digitize(table["age"], [30, 60])


def test_labels_by_name_are_the_joint_codes_and_codes_win_over_names(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    table.to_csv(path, index=False)
    parts = [
        LabelPart(column=label.column or "", classes=label.classes, borders=label.borders) for label in LABELS.values()
    ]
    for labels in (LABELS, {"joint18": Label(parts=parts)}):
        named = read_ground_truth(path, labels)
        assert named["ImageID"].tolist() == table["ImageID"].tolist()
        assert named["ans"].tolist() == codes(table).tolist()
    table.assign(ans=17).to_csv(path, index=False)
    assert set(read_ground_truth(path, LABELS)["ans"]) == {17}
    table.drop(columns="gender").to_csv(path, index=False)
    with pytest.raises(InputError, match="found neither ans nor gender; expected ans, or mask, gender, age beside"):
        read_ground_truth(path, LABELS)


@pytest.mark.parametrize(
    ("row", "column", "value", "expected"),
    [
        (3, "gender", "Female", "row 5: found 'Female', expected one of male, female"),
        (0, "age", "", "row 2: found '', expected a number from 0.* up"),
        (1, "age", "old", "row 3: found 'old', expected a number from 0.* up"),
        (2, "ImageID", "0.jpg", "0.jpg"),
    ],
)
def test_values_that_are_no_label_are_refused_with_their_row(
    row: int, column: str, value: str, expected: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    text = table.astype(str)
    text.loc[row, column] = value
    text.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(InputError, match=expected):
        read_ground_truth(tmp_path / "labels.csv", LABELS)
