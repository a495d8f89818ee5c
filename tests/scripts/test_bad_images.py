"""--on-bad-image over the whole corpus: what cannot be decoded is listed, everything else is predicted."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import combine
import train_task
from data.runtime.files import write_csv
from ensemble.files.submission import read_codes
from tests.bad_images import JPEG, NAMES, write_bad, write_sound


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> tuple[Path, list[str], set[str]]:
    """The folder images/ with the corpus; the names of all images in it, and of those that are bad."""
    folder = tmp_path_factory.mktemp("corpus") / "images"
    folder.mkdir()
    sound, bad = write_sound(folder), write_bad(folder)
    bad |= {"not_there": folder / "not_there.jpg"}
    for name in NAMES.values():
        (folder / name).write_bytes(JPEG)
    names = [path.name for path in [*sound.values(), *bad.values()]] + [*NAMES.values()]
    return folder, names, {path.name for path in bad.values()}


def test_combine_predicts_every_row_and_lists_what_it_could_not_decode(images, runs, configs, call, tmp_path) -> None:
    folder, names, bad = images
    # What leads out of the folder is refused whatever the option says: see below.
    names, bad = [name for name in names if name != "device.jpg"], bad - {"device.jpg"}
    write_csv(folder.parent / "info.csv", [["ImageID", "ans"], *([name, "0"] for name in names)])
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", folder.parent]
    out, named, saved = tmp_path / "submission.csv", tmp_path / "names.csv", set()
    for workers in (0, 1):
        options = ["--workers", workers, "--names", named, "--on-bad-image", "skip", "--batch-size", 7]
        outcome = call(combine, *given, "--out", out, *options)
        assert outcome.code == 0, outcome.err
        assert f"{len(bad)} images cannot be decoded" in outcome.err
        saved.add(out.read_bytes() + (tmp_path / "unseen.csv").read_bytes() + named.read_bytes())
    assert len(saved) == 1
    assert read_codes(out, 18)["ImageID"].tolist() == names
    undecodable = {row["ImageID"]: row["reason"] for row in rows_of(tmp_path / "unseen.csv")}
    assert undecodable.keys() == bad
    assert all(len(reason) > 10 and "\n" not in reason for reason in undecodable.values())
    with np.load(tmp_path / "probabilities.npz") as arrays:
        equal = {name for name, row in zip(names, arrays["mask"], strict=True) if np.ptp(row) == 0}
        nan = {name for name, years in zip(names, arrays["age/number"], strict=True) if np.isnan(years)}
    assert equal == nan == bad
    columns = ("mask", "age_probability", "age_number")
    assert {row["ImageID"] for row in rows_of(named) if not "".join(row[name] for name in columns)} == bad
    write_csv(folder.parent / "info.csv", [["ImageID"], ["jpeg.jpg"], ["html.jpg"]])
    outcome = call(combine, *given, "--workers", 0, "--out", tmp_path / "stop" / "submission.csv")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {folder / 'html.jpg'}: not an image of a known format")
    assert not (tmp_path / "stop").exists()


def test_training_leaves_bad_images_out_and_lists_them(images, faces, configs, call, tmp_path) -> None:
    folder, names, bad = images
    labels = [[name, ["wear", "incorrect", "normal"][at % 3], f"p{at // 3}"] for at, name in enumerate(names)]
    write_csv(folder.parent / "labels.csv", [["path", "mask", "person"], *labels])
    train = shutil.copytree(faces / "train", tmp_path / "train")  # the challenge's folders
    person, other = sorted((train / "images").iterdir())[:2]
    [first], [second] = person.glob("normal.*"), other.glob("normal.*")
    first.unlink()
    second.unlink()
    first.mkdir()
    second.symlink_to("gone")
    given = ["--task", "mask", "--config", configs / "mask.yaml", "--data", folder.parent, "--data", train]
    given += ["--runs", tmp_path / "runs"]
    outcome = call(train_task, *given)
    assert (outcome.code, outcome.err.count("error:")) == (2, 1)
    outcome = call(train_task, *given, "--cache", tmp_path / "cache", "--on-bad-image", "skip")
    assert outcome.code == 0, outcome.err
    assert f"{len(bad) + 2} images cannot be decoded and are left out" in outcome.err
    left_out = {row["path"] for row in rows_of(tmp_path / "runs" / "mask" / "left_out.csv")}
    assert left_out == {str(folder / name) for name in bad} | {str(first), str(second)}
    assert "left_out.csv" in json.loads((tmp_path / "runs" / "mask" / "manifest.json").read_text())["sha256"]


@pytest.mark.parametrize("option", ["stop", "skip"])
def test_an_image_outside_the_folder_is_never_opened(option, runs, configs, call, tmp_path) -> None:
    folder = tmp_path / "eval" / "images"
    folder.mkdir(parents=True)
    os.mkfifo(tmp_path / "eval" / "secret.jpg")  # opening it would never end
    (folder / "out.jpg").symlink_to("../secret.jpg")
    (folder / "linked").symlink_to("..")
    names = ["/etc/hostname", "../secret.jpg", "out.jpg", "linked/secret.jpg", "C:\\a.jpg"]
    write_csv(tmp_path / "eval" / "info.csv", [["ImageID"], *([name] for name in names)])
    given = ["--config", configs / "joint.yaml", "--runs", runs, "--data", tmp_path / "eval", "--workers", 0]
    outcome = call(combine, *given, "--out", tmp_path / "submission.csv", "--on-bad-image", option)
    assert outcome.code == 2
    assert all(repr(name) in outcome.err for name in names)
    assert not (tmp_path / "submission.csv").exists()
