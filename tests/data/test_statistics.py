"""The statistics are numpy's over all pixels, and can be pasted into a config."""

import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from data.runtime.errors import run_script
from data.statistics import count_all, main, mean_and_std


def make_images(folder, sizes=((5, 7), (11, 3), (1, 1), (20, 16))):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200 + 20 * i, (*size, 3)).astype(np.uint8) for i, size in enumerate(sizes)]
    (folder / "images").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"images/{i}.png")
    (folder / "labels.csv").write_text("path\n" + "".join(f"{i}.png\n" for i in range(len(images))))
    return np.concatenate([image.reshape(-1, 3) for image in images]) / 255


def test_mean_and_std_are_numpys_over_the_stacked_pixels(tmp_path):
    pixels = make_images(tmp_path / "faces")
    mean, std = mean_and_std(count_all((tmp_path / "faces/images").iterdir()))
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=0), rtol=1e-12)


def test_the_command_prints_yaml_over_all_folders(tmp_path, capsys):
    folders = [tmp_path / "a", tmp_path / "b"]
    pixels = np.concatenate([make_images(folders[0]), make_images(folders[1], sizes=((9, 9),))])
    main(["--data", str(folders[0]), "--data", str(folders[1])])
    printed = capsys.readouterr().out
    assert printed.startswith(f"# 5 images, {len(pixels)} pixels\n")
    values = yaml.safe_load(printed)
    np.testing.assert_allclose(values["mean"], pixels.mean(axis=0), atol=5e-7)
    np.testing.assert_allclose(values["std"], pixels.std(axis=0), atol=5e-7)


def test_every_bad_image_is_told_and_the_exit_code_is_2(tmp_path, capsys, monkeypatch):
    make_images(tmp_path)
    for name in ("1.png", "2.png"):
        (tmp_path / "images" / name).write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["statistics", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        run_script(main)
    assert stopped.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert [name in told.err for name in ("0.png", "1.png", "2.png", "3.png")] == [False, True, True, False]
