"""A cache gives what decoding gives; one that is out of date, truncated or too large is never read."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.images.decode import decode
from data.images.pixel_cache import CachedReader, make_cached_reader
from data.runtime.errors import InputError
from data.transforms.pipeline import Pipeline, working_size

SIZE = (24, 16)
LETTERBOX = Pipeline([{"letterbox": {"height": SIZE[0], "width": SIZE[1]}}])


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, shape in zip(paths, [(48, 32), (30, 40), (5, 4), (24, 16), (100, 20)], strict=True):
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
    return list(map(str, paths))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make(folder: Path, images: list[str], size=SIZE, limit=10**8, processes=1) -> CachedReader:
    return make_cached_reader(folder, pd.DataFrame({"source": "a", "path": images}), size, limit, processes)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("pixels-*.npy"))


def test_letterboxing_from_the_cache_is_letterboxing_the_file(images: list[str], folder: Path) -> None:
    table = pd.DataFrame({"source": ["a", "a", "b", "b", "b"], "path": images})
    read = make_cached_reader(folder, table, SIZE, 10**8, processes=1)
    for path in map(Path, images):
        assert np.array_equal(LETTERBOX(read(path), (0,)), LETTERBOX(decode(path), (0,)))
    again = pickle.loads(pickle.dumps(read))  # as a data loader worker receives it
    assert np.array_equal(again(Path(images[1])), read(Path(images[1])))
    assert files(folder) == sorted(read.files)
    make(folder, images[2:])
    assert len(files(folder)) == 2, "each source has its own cache"


def test_the_same_images_are_decoded_once(images: list[str], folder: Path) -> None:
    make(folder, images)
    [file] = files(folder)
    made = file.stat()
    make(folder, [*reversed(images), images[0]])
    assert file.stat().st_ino == made.st_ino
    make(folder.parent / "other", images, processes=2)
    assert files(folder.parent / "other")[0].read_bytes() == file.read_bytes()
    make(folder, images, (12, 8))
    assert len(files(folder)) == 2


def test_a_changed_image_is_decoded_again(images: list[str], folder: Path) -> None:
    make(folder, images)
    size = Path(images[3]).stat().st_size
    Image.new("RGB", (16, 24), (9, 8, 7)).save(images[3])
    os.truncate(images[3], size)  # as large as before: only the time differs
    os.utime(images[3], ns=(1, 1))
    assert (make(folder, images)(Path(images[3])) == (9, 8, 7)).all()


@pytest.mark.parametrize("version", ["PIL.__version__", "PIL.features.version", "cv2.__version__"])
def test_pixels_of_another_decoder_are_not_used(
    version: str, images: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(folder, images)
    monkeypatch.setattr(version, "0" if version.endswith("__") else {"libjpeg_turbo": "0"}.get)
    make(folder, images)
    assert len(files(folder)) == 2


def test_a_damaged_file_is_made_again(images: list[str], folder: Path) -> None:
    make(folder, images)
    [file] = files(folder)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not an array"):
        file.write_bytes(content)
        (folder / ".pixels-123.unfinished-x.npy").write_bytes(b"of a killed process")
        make(folder, images)
        assert file.read_bytes() == whole
        assert list(folder.iterdir()) == [file]


def test_a_failure_leaves_no_cache_and_names_every_bad_image(images: list[str], folder: Path) -> None:
    for path in images[:2]:
        Path(path).write_bytes(b"no image")
    with pytest.raises(InputError) as raised:
        make(folder, images)
    assert all(path in str(raised.value) for path in images[:2])
    with pytest.raises(InputError, match=r"images are missing\n  .*nowhere\.png: cannot be read"):
        make(folder, ["nowhere.png"])
    assert not folder.exists()


def test_a_cache_beyond_the_limit_is_refused_and_nothing_is_removed(images: list[str], folder: Path) -> None:
    slot = 4 + 3 * SIZE[0] * SIZE[1]
    with pytest.raises(InputError, match=r"5 images at 24 x 16 takes .* of --cache-limit; allow more or leave [^;]*$"):
        make(folder, images, limit=5 * slot - 1)
    make(folder, images[:2])
    [file] = files(folder)
    (folder / "features-1.npy").write_bytes(bytes(1000))
    (folder / "of_the_user.npy").write_bytes(bytes(10**6))
    limit = file.stat().st_size + 1000 + 3 * slot
    with pytest.raises(InputError, match=f"deleted again; the largest are {file.name} .*features-1"):
        make(folder, images[2:], limit=limit - 1)
    make(folder, images[:2], limit=0)  # needs no more room
    make(folder, images[2:], limit=limit)
    assert file.exists()


@pytest.mark.parametrize("shape", [(256, 192), (185, 144), (512, 384)])
def test_an_aligned_crop_from_the_cache_is_that_of_the_file(shape: tuple[int, int], folder: Path) -> None:
    steps = ["aligned_crop", {"letterbox": {"height": 144, "width": 144}}]
    size = working_size(["hflip", *steps], steps)
    assert size == (256, 192)
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape)
    waves = np.stack([rows, columns, (np.sin(9 * rows) + np.cos(7 * columns)) / 4 + 0.5], axis=2)
    file = folder.parent / "face.png"
    Image.fromarray((waves * 255).astype(np.uint8)).save(file)
    cached = Pipeline(steps)(make(folder, [str(file)], size)(file), (0,))
    decoded = Pipeline(steps)(decode(file), (0,))
    if shape[0] <= size[0] and shape[1] <= size[1]:
        assert np.array_equal(cached, decoded)
    assert np.quantile(np.abs(cached.astype(int) - decoded), 0.95) <= 4
