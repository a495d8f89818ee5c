"""--on-bad-image over the whole corpus: what cannot be seen is listed, everything else is answered."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import combine
import train_task
from ensemble.files.submission import read_answers
from tests.bad_images import JPEG, NAMES, write_bad, write_sound


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], set[str]]:
    """The folder images/ with the corpus; the names of all images in it, and of those that are bad."""
    folder = tmp_path_factory.mktemp("corpus") / "images"
    folder.mkdir()
    sound, bad = write_sound(folder), write_bad(folder)
    bad |= {"not_there": folder / "not_there.jpg"}
    for name in NAMES.values():
        (folder / name).write_bytes(JPEG)
    return (
        folder,
        [path.name for path in [*sound.values(), *bad.values()]] + [*NAMES.values()],
        {path.name for path in bad.values()},
    )


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.parametrize("workers", [0, 1])
def test_combine_answers_every_row_and_lists_what_it_could_not_see(
    workers: int,
    images: tuple[Path, list[str], set[str]],
    runs: Path,
    configs: Path,
    call: Callable,
    tmp_path: Path,
) -> None:
    folder, names, bad = images
    # What leads out of the folder is refused whatever the option says: see below.
    names, bad = [name for name in names if name != "device.jpg"], bad - {"device.jpg"}
    write_csv(folder.parent / "info.csv", ["ImageID", "ans"], [[name, "0"] for name in names])
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", folder.parent, "--workers", workers]
    out = tmp_path / "submission.csv"
    named = tmp_path / "names.csv"
    outcome = call(combine, *given, "--out", out, "--names", named, "--on-bad-image", "skip", "--batch-size", 7)
    assert outcome.code == 0, outcome.err
    assert read_answers(out, 18)["ImageID"].tolist() == names
    unseen = rows_of(tmp_path / "unseen.csv")
    assert {row["ImageID"] for row in unseen} == bad
    assert all(len(row["reason"]) > 10 and "\n" not in row["reason"] for row in unseen)
    assert f"{len(bad)} images could not be seen" in outcome.err
    with np.load(tmp_path / "probabilities.npz") as saved:
        equal = {name for name, row in zip(names, saved["mask"], strict=True) if np.ptp(row) == 0}
        numberless = {name for name, years in zip(names, saved["age/number"], strict=True) if np.isnan(years)}
    assert equal == numberless == bad
    told = ("mask", "age_probability", "age_number")
    assert {row["ImageID"] for row in rows_of(named) if not "".join(row[name] for name in told)} == bad


def test_combine_stops_at_the_first_bad_image_unless_told_otherwise(
    images: tuple[Path, list[str], set[str]], runs: Path, configs: Path, call: Callable, tmp_path: Path
) -> None:
    folder, _, _ = images
    write_csv(folder.parent / "info.csv", ["ImageID", "ans"], [["jpeg.jpg", "0"], ["html.jpg", "0"]])
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", folder.parent, "--workers", 0]
    outcome = call(combine, *given, "--out", tmp_path / "submission.csv")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {folder / 'html.jpg'}: not an image of a known format")
    assert list(tmp_path.iterdir()) == []


def test_training_leaves_bad_images_out_and_lists_them(
    images: tuple[Path, list[str], set[str]], faces: Path, configs: Path, call: Callable, tmp_path: Path
) -> None:
    folder, names, bad = images
    labels = [[name, ["wear", "incorrect", "normal"][at % 3], f"p{at // 3}"] for at, name in enumerate(names)]
    write_csv(folder.parent / "labels.csv", ["path", "mask", "person"], labels)
    given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", folder.parent, "--runs", tmp_path]
    cached = ["--cache", tmp_path / "cache", "--set", "sampler.per_person=null"]
    outcome = call(train_task, *given, *cached, "--on-bad-image", "skip")
    assert outcome.code == 0, outcome.err
    assert f"{len(bad)} images cannot be decoded and are left out" in outcome.err
    left_out = rows_of(tmp_path / "mask" / "left_out.csv")
    assert {Path(row["path"]).name for row in left_out} == bad
    assert "left_out.csv" in json.loads((tmp_path / "mask" / "manifest.json").read_text())["sha256"]
    outcome = call(train_task, *given)
    assert outcome.code == 2
    assert outcome.err.count("error:") == 1


def test_a_challenge_folder_with_what_is_no_image(
    faces: Path, configs: Path, call: Callable, tmp_path: Path
) -> None:
    shutil.copytree(faces / "train", tmp_path / "train")
    person, other = sorted((tmp_path / "train" / "images").iterdir())[:2]
    [normal] = person.glob("normal.*")
    normal.unlink()
    normal.mkdir()
    [normal] = other.glob("normal.*")
    normal.unlink()
    normal.symlink_to("gone")
    given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", tmp_path / "train"]
    assert call(train_task, *given, "--runs", tmp_path / "runs").code == 2
    outcome = call(train_task, *given, "--runs", tmp_path / "runs", "--on-bad-image", "skip")
    assert outcome.code == 0, outcome.err
    left_out = {row["path"] for row in rows_of(tmp_path / "runs" / "mask" / "left_out.csv")}
    assert left_out == {str(person / normal.name), str(other / normal.name)}


@pytest.mark.parametrize("option", ["stop", "skip"])
@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../secret.jpg", "out.jpg", "linked/secret.jpg", "C:\\a.jpg"]
)
def test_an_image_outside_the_folder_is_never_opened(
    name: str, option: str, runs: Path, configs: Path, call: Callable, tmp_path: Path
) -> None:
    images = tmp_path / "eval" / "images"
    images.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    for secret in (tmp_path / "eval" / "secret.jpg", outside / "secret.jpg"):
        os.mkfifo(secret)  # who opened it would hang
    (images / "out.jpg").symlink_to(outside / "secret.jpg")
    (images / "linked").symlink_to(outside)
    write_csv(tmp_path / "eval" / "info.csv", ["ImageID"], [[name]])
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", tmp_path / "eval", "--workers", 0]
    outcome = call(combine, *given, "--out", tmp_path / "submission.csv", "--on-bad-image", option)
    assert outcome.code == 2
    assert repr(name) in outcome.err
    assert not (tmp_path / "submission.csv").exists()
