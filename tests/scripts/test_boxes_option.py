"""--boxes of the scripts: a head sees of a scene what it sees of the same face cut out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import combine
from data.boxes.search import write_boxes
from data.images.crop import crop
from data.images.decode import decode
from heads.run.checkpoint import load_tensors, read_description, save_tensors


def combined(folder: Path, runs: Path, configs: Path, call: Callable, *options: object) -> tuple[dict, str]:
    out = folder / "submission.csv"
    joint = ["--config", configs / "joint.yaml", "--runs", runs, "--workers", 0]
    outcome = call(combine, *joint, "--data", folder, "--out", out, *options)
    assert outcome.code == 0, outcome.err
    with np.load(folder / "probabilities.npz") as saved:
        return {name: saved[name] for name in ("mask", "gender", "age")}, outcome.out


def test_combine_answers_scenes_by_their_boxes(
    faces: Path, runs: Path, configs: Path, call: Callable, tmp_path: Path
) -> None:
    names = [f"{path.stem}.png" for path in sorted((faces / "eval" / "images").iterdir())[:5]]
    for folder in ("scenes", "cut"):
        (tmp_path / folder / "images").mkdir(parents=True)
        (tmp_path / folder / "info.csv").write_text("ImageID\n" + "\n".join(names) + "\n")
    boxes = {}
    for place, path in enumerate(sorted((faces / "eval" / "images").iterdir())[:5]):
        face = decode(path)
        scene = np.full((200, 200, 3), 40, np.uint8)
        scene[30 : 30 + face.shape[0], 20 : 20 + face.shape[1]] = face
        box = (30.0, 50.0, 60.0, 85.0, 0.9)
        Image.fromarray(scene).save(tmp_path / "scenes" / "images" / names[place])
        whole = place == 4  # an image without a face
        cut = scene if whole else crop(scene, box)
        Image.fromarray(cut).save(tmp_path / "cut" / "images" / names[place])
        boxes[str(tmp_path / "scenes" / "images" / names[place])] = [] if whole else [box]
    write_boxes(tmp_path / "boxes.csv", boxes)
    expected, _ = combined(tmp_path / "cut", runs, configs, call)
    got, told = combined(tmp_path / "scenes", runs, configs, call, "--boxes", tmp_path / "boxes.csv")
    plain, _ = combined(tmp_path / "scenes", runs, configs, call)
    for task in expected:
        np.testing.assert_array_equal(got[task], expected[task])
        assert (plain[task][:4] != expected[task][:4]).any()
    assert "boxes: 4 of 5 images cropped (0 with several: the largest); whole: 1 without a face" in told


def test_a_head_trained_on_boxes_is_told_of_where_images_are_shown_otherwise(
    faces: Path, runs: Path, configs: Path, call: Callable, tmp_path: Path
) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    head = tmp_path / "runs" / "mask" / "best.safetensors"
    tensors, description = load_tensors(head)
    save_tensors(head, tensors, description | {"box_margin": 0.5})
    (head.parent / "manifest.json").unlink()  # else the file would be refused for another checksum
    names = [path.name for path in sorted((faces / "eval" / "images").iterdir())[:2]]
    write_boxes(
        tmp_path / "boxes.csv", {str(faces / "eval" / "images" / names[0]): [(4.0, 4.0, 40.0, 50.0, 1.0)]}
    )
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "images").symlink_to(faces / "eval" / "images")
    (tmp_path / "eval" / "info.csv").write_text("ImageID\n" + "\n".join(names) + "\n")

    def told(*options: object) -> str:
        given = ["--config", configs / "joint.yaml", "--runs", tmp_path / "runs", "--workers", 0]
        outcome = call(
            combine, *given, "--data", tmp_path / "eval", "--out", tmp_path / "out" / "a.csv", *options
        )
        assert outcome.code == 0, outcome.err
        return "\n".join(line for line in outcome.err.splitlines() if "--boxes" in line)

    boxes = ["--boxes", tmp_path / "boxes.csv"]
    trained = f"{head}: trained on faces cropped to boxes with a margin of 0.5 (--boxes), answers here for"
    assert told() == f"{trained} whole images"
    assert told(*boxes) == f"{trained} a margin of 1"
    assert told(*boxes, "--box-margin", 0.5) == ""


def test_train_task_trains_on_the_faces_and_caches_them(faces: Path, train: Callable, tmp_path: Path) -> None:
    images = sorted(path for path in (faces / "train" / "images").rglob("*") if path.is_file())
    write_boxes(tmp_path / "boxes.csv", {str(path): [(10.0, 15.0, 38.0, 50.0, 0.9)] for path in images[:-7]})
    options = ["--data", faces / "train", "--runs", tmp_path / "runs", "--boxes", tmp_path / "boxes.csv"]
    first = train("mask", *options)
    assert f"boxes: {len(images) - 7} of {len(images)} images cropped" in first.out
    assert "0 without a face, 7 not listed" in first.out
    assert read_description(tmp_path / "runs" / "mask" / "best.safetensors")["box_margin"] == 1.0
    history = (tmp_path / "runs" / "mask" / "metrics.json").read_text()
    cached = train("mask", *options, "--cache", tmp_path / "cache")
    assert "cache: decoding" in cached.out
    assert (tmp_path / "runs" / "mask" / "metrics.json").read_text().split('"minutes"')[0] == history.split(
        '"minutes"'
    )[0]
    shutil.rmtree(tmp_path / "runs")
