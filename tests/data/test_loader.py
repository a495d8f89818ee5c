"""Workers end with their program, although they take the first SIGTERM for one to the whole process group."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PROGRAM = """
import sys
from data.dataset import ImageDataset, SequentialIndices
from data.loader import Loader
from data.transforms.pipeline import Pipeline

batches = iter(Loader(ImageDataset(sys.argv[1:], [Pipeline([])]), sampler=SequentialIndices(2), num_workers=1))
print(next(batches).pixels[0].shape)
print(next(batches).pixels[0].shape)
raise RuntimeError("a bug")
"""


@pytest.mark.parametrize("second", ["good", "bad"])
def test_an_error_that_nobody_catches_ends_the_program(second: str, tmp_path: Path) -> None:
    """Also one between two batches, when the traceback or a variable keeps the loader."""
    paths = [tmp_path / "good.png", tmp_path / f"{second}.png"]
    (tmp_path / "bad.png").write_bytes(b"not an image")
    Image.new("RGB", (3, 2)).save(paths[0])
    command = [sys.executable, "-c", PROGRAM, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("torch.Size([1, 3, 2, 3])")
    assert done.returncode == 1
    assert ("a bug" if second == "good" else "not an image of a known format") in done.stderr
