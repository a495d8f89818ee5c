"""A folder of bare faces becomes a data folder with masks: labels, people, chance, refusals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.errors import InputError
from data.manifest import read_table
from data.masked import Plan, bare_faces, write_masked
from data.split import assign_folds


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    folder = tmp_path / "portraits"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["path,age,gender,person"]
    for number in range(6):
        picture = rng.integers(60, 200, (64, 48, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        lines.append(f"{number}.png,{20 + number},female,p{number // 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_each_face_comes_bare_and_masked_with_its_own_labels(portraits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_masked(read_table([portraits]), out, Plan(3, 0.5, 0), processes=1) == 24
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
    write_masked(read_table([portraits]), tmp_path / "right", Plan(2, 0.0, 0), processes=1)
    write_masked(read_table([portraits]), tmp_path / "wrong", Plan(2, 1.0, 0), processes=1)
    assert read_table([tmp_path / "right"])["mask"].value_counts().to_dict() == {"wear": 12, "normal": 6}
    assert read_table([tmp_path / "wrong"])["mask"].value_counts().to_dict() == {"incorrect": 12, "normal": 6}


def test_the_same_seed_draws_the_same_with_any_number_of_processes(portraits: Path, tmp_path: Path) -> None:
    for name, seed, processes in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        write_masked(read_table([portraits]), tmp_path / name, Plan(2, 0.5, seed), processes)
    files = {
        name: {file.name: file.read_bytes() for file in (tmp_path / name / "images").iterdir()}
        for name in ("one", "two", "other")
    }
    assert files["one"] == files["two"] != files["other"]


def test_only_bare_faces_are_drawn_on() -> None:
    table = pd.DataFrame({"path": ["a", "b", "c"], "mask": ["wear", "normal", None]})
    assert bare_faces(table)["path"].tolist() == ["b", "c"]
    with pytest.raises(InputError, match="no photograph of a bare face"):
        bare_faces(table[:1])


def test_a_folder_with_files_is_refused(portraits: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not empty"):
        write_masked(read_table([portraits]), portraits, Plan(1, 0.5, 0), processes=1)
