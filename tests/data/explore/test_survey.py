"""What an image is, as it was decoded."""

from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from data.explore.duplicates import NEAR
from data.explore.survey import ImageInfo, fingerprint, inspect_image, inspect_images


def image(seed: int, size: tuple[int, int] = (96, 128)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def test_one_image_in_two_lossless_formats_has_one_digest(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp"):
        image(0).save(tmp_path / name)
    image(0).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    png, bmp, turned = (inspect_image(str(tmp_path / name)) for name in ("a.png", "a.bmp", "turned.png"))
    assert isinstance(png, ImageInfo)
    assert isinstance(bmp, ImageInfo)
    assert isinstance(turned, ImageInfo)
    assert png.digest == bmp.digest != turned.digest
    assert (png.kind, bmp.kind) == ("PNG RGB", "BMP RGB")
    assert (png.width, png.height) == (96, 128) == (turned.height, turned.width)
    assert png.file_bytes == (tmp_path / "a.png").stat().st_size
    assert png.levels.sum() == 3 * 96 * 128


def test_fingerprints_are_those_of_imagehash_and_outlast_compression(tmp_path: Path) -> None:
    original = image(1)
    assert f"{fingerprint(np.asarray(original)):016x}" == str(imagehash.phash(original))
    original.resize((48, 64)).save(tmp_path / "small.jpg", quality=60)
    small = inspect_image(str(tmp_path / "small.jpg"))
    assert isinstance(small, ImageInfo)
    assert (small.fingerprint ^ fingerprint(np.asarray(original))).bit_count() <= NEAR
    assert (small.fingerprint ^ fingerprint(np.asarray(image(2)))).bit_count() > NEAR


@pytest.mark.parametrize("processes", [1, 2])
def test_bad_files_are_told_in_their_place(tmp_path: Path, processes: int) -> None:
    image(0).save(tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"<html>")
    paths = [str(tmp_path / name) for name in ("bad.jpg", "good.jpg", "gone.jpg")]
    bad, good, gone = inspect_images(paths, processes)
    assert isinstance(good, ImageInfo)
    assert "bad.jpg: not an image of a known format" in str(bad)
    assert gone == f"{paths[2]}: cannot be read (No such file or directory), expected an image file"
