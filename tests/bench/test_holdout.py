"""People put aside: whole, enough of each kind, the rest untouched; scored as combine.py does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score

import combine
from bench import held_out, holdout
from data.manifest import read_table


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """60 photographs of 30 people, two sources of different size."""
    folder = tmp_path / "crops"
    (folder / "images").mkdir(parents=True)
    lines = ["path,group,source,mask"]
    for number in range(60):
        Image.new("RGB", (8, 10), (number, 0, 0)).save(folder / "images" / f"{number}.png")
        lines.append(f"{number}.png,g{number // 2},{'big' if number < 40 else 'small'},wear")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(("size", "wanted"), [(("--rows", 5), (6, 6)), (("--share", 0.25), (10, 6))])
def test_whole_people_are_put_aside_of_each_kind(
    size: tuple[object, ...], wanted: tuple[int, int], crops: Path, tmp_path: Path, call: Callable
) -> None:
    outcome = call(holdout, "--data", crops, "--out", tmp_path / "out", "--by", "source", *size)
    assert outcome.code == 0, outcome.err
    held, rest = (pd.read_csv(tmp_path / "out" / name / "labels.csv") for name in ("held_out", "rest"))
    assert tuple(held["source"].value_counts()[["big", "small"]]) == wanted
    assert set(held["group"]).isdisjoint(rest["group"])
    whole = pd.read_csv(crops / "labels.csv").sort_values("path", ignore_index=True)
    pd.testing.assert_frame_equal(pd.concat([held, rest]).sort_values("path", ignore_index=True), whole)
    for row in read_table([tmp_path / "out" / "held_out"])["path"]:
        assert Path(row).read_bytes() == (crops / "images" / Path(row).name).read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--by", "color", "--rows", 3), "expected color and path"),
        (("--by", "source", "--share", 1.5), "expected --rows of at least 1 or --share between 0 and 1"),
        (("--by", "source", "--rows", 3, "--seed", -1), "--seed -1: expected 0 or more"),
        (("--by", "source", "--rows", 60), "all of its 60 photographs would be put aside, expected fewer"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    options: tuple, told: str, crops: Path, tmp_path: Path, call: Callable
) -> None:
    outcome = call(holdout, "--data", crops, "--out", tmp_path / "out", *options)
    assert outcome.code == 2
    assert told in outcome.err


def test_rows_without_a_person_are_people_of_their_own(crops: Path, tmp_path: Path, call: Callable) -> None:
    labels = pd.read_csv(crops / "labels.csv", dtype=str)
    labels.loc[:49, "group"] = ""
    labels.to_csv(crops / "labels.csv", index=False)
    outcome = call(holdout, "--data", crops, "--out", tmp_path / "out", "--by", "source", "--rows", 5)
    assert outcome.code == 0, outcome.err
    held = pd.read_csv(tmp_path / "out" / "held_out" / "labels.csv")
    assert held["source"].value_counts().between(5, 6).all()


def test_photographs_that_are_not_there_are_told_before_anything_is_written(
    crops: Path, tmp_path: Path, call: Callable
) -> None:
    for number in (3, 41):
        (crops / "images" / f"{number}.png").unlink()
    with (crops / "labels.csv").open("a") as file:
        file.write("../secret.png,g9,big,wear\n")
    outcome = call(holdout, "--data", crops, "--out", tmp_path / "out", "--by", "source", "--rows", 5)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"error: {crops / 'labels.csv'}: 3 photographs cannot be copied; correct or remove their rows",
        "  row 5: path='3.png', found no such file in images/ or beside labels.csv",
        "  row 43: path='41.png', found no such file in images/ or beside labels.csv",
        "  row 62: path='../secret.png', expected a path inside the image folder",
    ]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(crops: Path, tmp_path: Path, call: Callable) -> None:
    given = ["--data", crops, "--out", tmp_path / "out", "--by", "source", "--rows", 5]
    (tmp_path / "out").mkdir()
    assert call(holdout, *given).code == 0
    before = sorted((tmp_path / "out").rglob("*"))
    again = call(holdout, *given, "--seed", 1)
    assert again.code == 2
    assert f"{tmp_path / 'out'}: is not empty, expected a new or an empty folder" in again.err
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_a_task_without_heads_is_told(crops: Path, tmp_path: Path, call: Callable) -> None:
    outcome = call(held_out, "--runs", tmp_path, "--task", "mask", "--data", crops)
    assert outcome.code == 2
    assert "found no mask/best.safetensors" in outcome.err


def test_the_score_is_that_of_combine_s_probabilities(
    runs: Path, configs: Path, faces: Path, tmp_path: Path, call: Callable
) -> None:
    outcome = call(held_out, "--runs", runs, "--task", "gender", "--data", faces / "train", "--workers", 0)
    assert outcome.code == 0, outcome.err
    rows = read_table([faces / "train"])
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "images").symlink_to("/")
    names = [path.lstrip("/") for path in rows["path"]]
    (folder / "info.csv").write_text("\n".join(["ImageID", *names]) + "\n")
    options = ["--config", configs / "joint.yaml", "--runs", runs, "--workers", 0]
    outcome_of_combine = call(combine, *options, "--data", folder, "--out", folder / "submission.csv")
    assert outcome_of_combine.code == 0, outcome_of_combine.err
    with np.load(folder / "probabilities.npz") as arrays:
        answers = arrays["gender"].argmax(axis=1)
    truth = (rows["gender"] == "female").to_numpy().astype(int)
    expected = f1_score(truth, answers, labels=[0, 1], average="macro")
    assert outcome.out.splitlines()[-1].startswith(f"| all | {len(rows)} | {expected:.3f} |")
