"""People set aside are whole, enough of each kind, the rest untouched; they are scored as combine.py scores."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score

import combine
from bench import held_out, holdout
from data.annotations.table import read_table


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """60 images of 30 people from two sources of different size."""
    folder = tmp_path / "crops"
    (folder / "images").mkdir(parents=True)
    lines = "path,group,source,mask,gender\n"
    for number in range(60):
        Image.new("RGB", (8, 10), (number, 0, 0)).save(folder / "images" / f"{number}.png")
        lines += f"{number}.png,g{number // 2},{'big' if number < 40 else 'small'},wear,male\n"
    (folder / "labels.csv").write_text(lines)
    return folder


@pytest.mark.parametrize(("size", "counts"), [(("--rows", 5), (6, 6)), (("--share", 0.25), (10, 6))])
def test_whole_people_of_each_kind_are_set_aside(
    size: tuple[object, ...], counts: tuple[int, int], crops: Path, tmp_path: Path, call: Callable
) -> None:
    outcome = call(holdout, "--data", crops, "--out", tmp_path / "out", "--by", "source", *size)
    assert outcome.code == 0, outcome.err
    held, rest = (pd.read_csv(tmp_path / "out" / name / "labels.csv") for name in ("held_out", "rest"))
    assert tuple(held["source"].value_counts()[["big", "small"]]) == counts
    assert set(held["group"]).isdisjoint(rest["group"])
    whole = pd.read_csv(crops / "labels.csv").sort_values("path", ignore_index=True)
    pd.testing.assert_frame_equal(pd.concat([held, rest]).sort_values("path", ignore_index=True), whole)
    for path in map(Path, read_table([tmp_path / "out" / "held_out"])["path"]):
        assert path.read_bytes() == (crops / "images" / path.name).read_bytes()
    call(holdout, "--data", crops, "--out", tmp_path / "again", "--by", "source", *size, "--seed", 1)
    assert not held.equals(pd.read_csv(tmp_path / "again" / "held_out" / "labels.csv"))


def test_a_source_is_left_out_with_everybody_who_is_in_it(crops: Path, tmp_path: Path, call: Callable) -> None:
    labels = pd.read_csv(crops / "labels.csv")
    labels.loc[40, "source"] = "big"  # a person with an image of each source
    labels.to_csv(crops / "labels.csv", index=False)
    outcome = call(holdout, "--data", crops, "--out", tmp_path / "out", "--leave-out", "small")
    assert outcome.code == 0, outcome.err
    held, rest = (pd.read_csv(tmp_path / "out" / name / "labels.csv") for name in ("held_out", "rest"))
    assert sorted(held["path"]) == sorted(f"{number}.png" for number in range(40, 60))
    assert sorted(rest["path"]) == sorted(f"{number}.png" for number in range(40))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--leave-out", "middle"), "--leave-out middle: no image has it, expected one of big, small in source"),
        (("--by", "mask", "--leave-out", "wear"), "nothing would be left to train on"),
        (("--by", "color", "--rows", 3), "--by color: no such column in"),
        (("--by", "source", "--share", 1.5), "--share 1.5: expected a number between 0 and 1"),
        (("--by", "source", "--rows", 0), "--rows: '0', expected a whole number, 1 or more"),
        (("--by", "source", "--rows", 30), "or a smaller --share\n  source='small': all of its 20 images"),
    ],
)
def test_wrong_options_are_refused(options: tuple, message: str, crops: Path, tmp_path: Path, call: Callable) -> None:
    outcome = call(holdout, "--data", crops, "--out", tmp_path / "out", *options)
    assert outcome.code == 2
    assert message in outcome.err


def test_the_score_is_that_of_combine_s_probabilities(
    runs: Path, configs: Path, faces: Path, tmp_path: Path, call: Callable
) -> None:
    rows = read_table([faces / "train"])
    (tmp_path / "images").symlink_to("/")
    rows["path"].str.lstrip("/").to_csv(tmp_path / "info.csv", header=["ImageID"], index=False)
    options = ["--config", configs / "joint.yaml", "--runs", runs, "--workers", 0]
    assert call(combine, *options, "--data", tmp_path, "--out", tmp_path / "submission.csv").code == 0
    with np.load(tmp_path / "probabilities.npz") as arrays:
        answers = arrays["gender"].argmax(axis=1)
    options = ["--runs", runs, "--task", "gender", "--data", faces / "train", "--workers", 0]
    outcome = call(held_out, *options, "--by", "shot")
    assert outcome.code == 0, outcome.err
    right = (rows["gender"] == "female").to_numpy().astype(int)
    table = [[cell.strip() for cell in line.split("|")[1:4]] for line in outcome.out.splitlines()]
    for name, mask in (("all", rows["shot"] != ""), ("shot mask1", rows["shot"] == "mask1")):
        score = f1_score(right[mask], answers[mask], labels=[0, 1], average="macro", zero_division=0)
        assert [name, str(mask.sum()), f"{score:.3f}"] in table
    outcome = call(held_out, *options, "--by", "camera")
    assert outcome.code == 2
    assert "--by camera: no such column, expected one of source, path, person" in outcome.err
