"""--boxes of the scripts: a head gets from a scene what it gets from the same face cut out."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

import combine
from data.boxes.search import write_boxes
from data.images.crop import crop
from data.images.decode import decode
from ensemble.inference.load import load_tasks
from heads.run.checkpoint import load_tensors, read_description, save_tensors


def test_combine_predicts_scenes_by_their_boxes(faces, runs, configs, call, tmp_path) -> None:
    names = [f"{number}.png" for number in range(5)]
    scenes, cut = tmp_path / "scenes", tmp_path / "cut"
    for folder in (scenes, cut):
        (folder / "images").mkdir(parents=True)
        (folder / "info.csv").write_text("ImageID\n" + "\n".join(names) + "\n")
    boxes, box = {}, (30.0, 50.0, 60.0, 85.0, 0.9)
    for name, path in zip(names, sorted((faces / "eval" / "images").iterdir()), strict=False):
        scene = np.full((200, 200, 3), 40, np.uint8)
        scene[30:94, 20:68] = decode(path)
        Image.fromarray(scene).save(scenes / "images" / name)
        has_face = name != names[-1]
        Image.fromarray(crop(scene, box) if has_face else scene).save(cut / "images" / name)
        boxes[str(scenes / "images" / name)] = [box] if has_face else []
    write_boxes(tmp_path / "boxes.csv", boxes)

    def predict(folder: Path, *options: object) -> tuple[dict, str]:
        given = ["--config", configs / "joint.yaml", "--runs", runs, "--workers", 0, "--data", folder]
        outcome = call(combine, *given, "--out", folder / "submission.csv", *options)
        assert outcome.code == 0, outcome.err
        with np.load(folder / "probabilities.npz") as arrays:
            return {name: arrays[name] for name in ("mask", "gender", "age")}, outcome.out

    expected, plain = predict(cut)[0], predict(scenes)[0]
    found, output = predict(scenes, "--boxes", tmp_path / "boxes.csv")
    for task in expected:
        np.testing.assert_array_equal(found[task], expected[task])
        assert (plain[task][:4] != expected[task][:4]).any()
    assert "boxes: 4 of 5 images cropped (0 with several: the largest); whole: 1 without a face" in output


def test_heads_that_were_trained_on_other_crops_are_warned_of(runs, configs, tmp_path, capsys) -> None:
    head = shutil.copytree(runs, tmp_path / "runs") / "mask" / "best.safetensors"
    tensors, description = load_tensors(head)
    save_tensors(head, tensors, description | {"box_margin": 0.5})
    (head.parent / "manifest.json").unlink()  # else the file would be refused for another checksum
    for margin, use in ((None, "whole images"), (1.0, "a margin of 1"), (0.5, "")):
        load_tasks(tmp_path / "runs", configs / "joint.yaml", margin)
        printed = capsys.readouterr().err
        assert (f"used here on {use}" in printed) == ("used here on" in printed) == bool(use)


def test_train_task_trains_on_the_faces_and_caches_them(faces, train, tmp_path) -> None:
    images = sorted(path for path in (faces / "train" / "images").rglob("*") if path.is_file())
    write_boxes(tmp_path / "boxes.csv", {str(path): [(10.0, 15.0, 38.0, 50.0, 0.9)] for path in images[:-7]})
    options = ["--data", faces / "train", "--runs", tmp_path / "runs", "--boxes", tmp_path / "boxes.csv"]
    output = train("mask", *options).out
    assert f"boxes: {len(images) - 7} of {len(images)} images cropped" in output
    assert "0 without a face, 7 not listed" in output
    assert read_description(tmp_path / "runs" / "mask" / "best.safetensors")["box_margin"] == 1.0
    metrics = (tmp_path / "runs" / "mask" / "metrics.json").read_text().partition('"minutes"')[0]
    assert "cache: decoding" in train("mask", *options, "--cache", tmp_path / "cache").out
    assert (tmp_path / "runs" / "mask" / "metrics.json").read_text().partition('"minutes"')[0] == metrics
