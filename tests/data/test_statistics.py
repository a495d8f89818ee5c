"""python -m data.statistics: numpy's mean and standard deviation over all pixels, as lines of a config."""

import numpy as np
import yaml
from PIL import Image

from data import statistics


def make_images(folder, sizes=((5, 7), (11, 3), (1, 1), (20, 16))):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200 + 20 * i, (*size, 3)).astype(np.uint8) for i, size in enumerate(sizes)]
    (folder / "images").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"images/{i}.png")
    (folder / "labels.csv").write_text("path\n" + "".join(f"{i}.png\n" for i in range(len(images))))
    return np.concatenate([image.reshape(-1, 3) for image in images]) / 255


def test_the_statistics_are_numpys_over_the_pixels_of_all_folders(tmp_path, capsys):
    folders = [tmp_path / "a", tmp_path / "b"]
    pixels = np.concatenate([make_images(folders[0]), make_images(folders[1], sizes=((9, 9),))])
    statistics.main(["--data", str(folders[0]), "--data", str(folders[1])])
    printed = capsys.readouterr().out
    assert printed.startswith(f"# 5 images, {len(pixels)} pixels\n")
    values = yaml.safe_load(printed)
    np.testing.assert_allclose(values["mean"], pixels.mean(axis=0), atol=5e-7)
    np.testing.assert_allclose(values["std"], pixels.std(axis=0), atol=5e-7)


def test_all_bad_images_are_listed_and_the_exit_code_is_2(tmp_path, call):
    make_images(tmp_path)
    for name in ("1.png", "2.png"):
        (tmp_path / "images" / name).write_bytes(b"")
    outcome = call(statistics, "--data", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert [name in outcome.err for name in ("0.png", "1.png", "2.png")] == [False, True, True]
