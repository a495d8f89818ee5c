"""More than 60 kinds of images: decoded, or refused with one line that names file and reason."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images.decode import MAX_BYTES, MAX_PIXELS, MAX_PIXELS_OF, decode
from data.images.validate import find_undecodable
from data.runtime.errors import InputError
from tests.bad_images import BAD, IMAGE, JPEG, NAMES, OTHER, PLACES, SOUND, encoded, png, write_bad, write_sound

ROOT = Path(__file__).parents[3]
SECONDS = 5.0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bad(tmp_path_factory.mktemp("bad"))


def test_there_are_more_than_sixty_kinds() -> None:
    assert len({*SOUND, *OTHER, *BAD, *PLACES, *NAMES}) >= 60


@pytest.mark.parametrize("kind", [*SOUND, *OTHER])
def test_sound_images_are_decoded(kind: str, sound: dict[str, Path]) -> None:
    expected, tolerance = (OTHER[kind][1], 0) if kind in OTHER else (IMAGE, SOUND[kind][1])
    pixels = decode(sound[kind])
    assert pixels.shape == expected.shape
    assert pixels.dtype == np.uint8
    difference = np.abs(pixels.astype(int) - expected)
    assert difference.max() <= tolerance
    assert difference.mean() <= 8


@pytest.mark.parametrize("kind", [*BAD, *PLACES])
def test_bad_images_are_refused_with_one_line(
    kind: str, bad: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.perf_counter()
    with pytest.raises(InputError) as refused:
        decode(bad[kind])
    assert time.perf_counter() - started < SECONDS
    message = str(refused.value)
    assert message.startswith(f"{bad[kind]}: ")
    assert len(message) > len(f"{bad[kind]}: ") + 10
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []  # nothing in it was run


def test_those_that_cannot_be_decoded_are_found(sound: dict[str, Path], bad: dict[str, Path]) -> None:
    found = find_undecodable([str(path) for path in [*sound.values(), *bad.values()]], processes=2)
    assert found.keys() == {str(path) for path in bad.values()}
    assert all(error.startswith(path) for path, error in found.items())


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_is_a_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / NAMES[kind]
    path.write_bytes(JPEG)
    assert decode(path).shape == IMAGE.shape
    path.write_bytes(b"")
    with pytest.raises(InputError) as refused:
        decode(path)
    assert "\n" not in str(refused.value)
    assert kind == "newline" or NAMES[kind] in str(refused.value)


def test_names_with_a_nul_or_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\\x00b\.jpg: cannot be read"):
        decode(tmp_path / "a\0b.jpg")
    with pytest.raises(InputError, match=r"\\udcff\.jpg: cannot be read \(No such file or directory\)"):
        decode(tmp_path / os.fsdecode(b"\xff.jpg"))


PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
from data.images.decode import decode
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
Image.init()
before = peak()
shape = decode(Path(sys.argv[1])).shape
print(shape[0] * shape[1], peak() - before)
"""


def progressive(side: int) -> bytes:
    return encoded(Image.new("CMYK", (side, side), (9, 99, 199, 0)), progressive=True, subsampling=0)


def transparent_webp(side: int) -> bytes:
    return encoded(Image.new("RGBA", (side, side), (9, 99, 199, 50)), "WEBP", lossless=True, method=0)


def opaque_png(side: int) -> bytes:
    return png(side, side, bytes((3 * side + 1) * side))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("make", "most"),
    [(opaque_png, MAX_PIXELS), (progressive, MAX_PIXELS), (transparent_webp, MAX_PIXELS_OF["WEBP"])],
)
def test_the_largest_image_takes_less_than_500_mb(
    make: Callable[[int], bytes], most: int, tmp_path: Path
) -> None:
    side = int(most**0.5)
    (tmp_path / "large.jpg").write_bytes(make(side))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "large.jpg")]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pixels, memory = map(int, output.split())
    assert pixels == side * side
    assert memory + MAX_BYTES < 500_000_000
