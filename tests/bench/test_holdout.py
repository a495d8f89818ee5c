"""People put aside: whole, enough of each kind, the rest untouched; scored as combine.py does."""

import errno
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score

import combine
from bench import held_out, holdout
from data.annotations.table import read_table
from heads.build import load_head
from heads.run.folder import save_head


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """60 images of 30 people, two sources of different size."""
    folder = tmp_path / "crops"
    (folder / "images").mkdir(parents=True)
    lines = ["path,group,source,mask,gender"]
    for number in range(60):
        Image.new("RGB", (8, 10), (number, 0, 0)).save(folder / "images" / f"{number}.png")
        lines.append(f"{number}.png,g{number // 2},{'big' if number < 40 else 'small'},wear,male")
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
        (("--by", "source", "--rows", 3, "--seed", -1), "--seed: '-1', expected a whole number, 0 or more"),
        (
            ("--by", "source", "--rows", 30),
            "or a smaller --share\n  source='small': all of its 20 images",
        ),
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


def test_images_that_are_not_there_are_told_before_anything_is_written(
    crops: Path, tmp_path: Path, call: Callable
) -> None:
    for number in (3, 41):
        (crops / "images" / f"{number}.png").unlink()
    with (crops / "labels.csv").open("a") as file:
        file.write("../secret.png,g9,big,wear,male\n")
    outcome = call(holdout, "--data", crops, "--out", tmp_path / "out", "--by", "source", "--rows", 5)
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        f"error: {crops / 'labels.csv'}: 3 images cannot be copied; correct or remove their rows",
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
    assert f"{tmp_path / 'out'}: exists and is not an empty folder" in again.err
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_a_full_disk_leaves_nothing_in_the_way_of_the_next_try(
    crops: Path, tmp_path: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--data", crops, "--out", tmp_path / "out", "--by", "source", "--rows", 5]

    copies, copyfile = count(), shutil.copyfile

    def until_full(source: Path, target: Path) -> None:
        if next(copies) == 20:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        copyfile(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", until_full)
        outcome = call(holdout, *given)
    assert outcome.code == 2
    assert "No space left on device" in outcome.err
    assert sorted(tmp_path.iterdir()) == [crops]
    assert call(holdout, *given).code == 0


def test_chance_is_the_seed_s(crops: Path, tmp_path: Path, call: Callable) -> None:
    def drawn(seed: int, name: str) -> str:
        out = tmp_path / name
        options = ("--by", "source", "--rows", 5, "--seed", seed)
        assert call(holdout, "--data", crops, "--out", out, *options).code == 0
        return (out / "held_out" / "labels.csv").read_text()

    assert drawn(0, "a") == drawn(0, "b") != drawn(1, "c")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"label": {"classes": ["female", "male"]}}, "found the classes ['female', 'male'], expected"),
        ({"pixels": {"evaluate": [{"letterbox": {"height": 40, "width": 20}}]}}, "found the pixels.evaluate"),
    ],
)
def test_folds_that_do_not_fit_are_not_averaged(
    change: dict[str, dict], told: str, runs: Path, crops: Path, tmp_path: Path, call: Callable
) -> None:
    first, second = (tmp_path / f"runs/gender/fold-{fold}/best.safetensors" for fold in (0, 1))
    shutil.copytree(runs / "gender", first.parent)
    head = load_head(first)
    config = head.config.model_dump()
    for section, values in change.items():
        config[section] |= values
    save_head(second, head.head, config, {})
    outcome = call(held_out, "--runs", tmp_path / "runs", "--task", "gender", "--data", crops)
    assert outcome.code == 2
    assert f"folds of one task do not fit together\n  {second}: {told}" in outcome.err


def test_a_row_for_each_source(runs: Path, crops: Path, call: Callable) -> None:
    options = ["--runs", runs, "--task", "gender", "--data", crops, "--workers", 0]
    outcome = call(held_out, *options, "--by", "csv_source")
    assert outcome.code == 0, outcome.err
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in outcome.out.splitlines()[3:]]
    assert rows == [["all", "60"], ["csv_source big", "40"], ["csv_source small", "20"]]


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
