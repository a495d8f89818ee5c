"""The images to answer as paths: each is there, and within the one folder that holds them all."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from data.annotations.listing import ID
from data.runtime.errors import InputError, raise_all
from data.runtime.file_names import unsafe_reason

ABSENT = ("no such file", "cannot be followed")  # how reasons begin that harm nobody


class ImagePaths(Sequence[Path]):
    """The paths `folder`/id; only the ids are in memory, as one block, which forked workers share uncopied."""

    def __init__(self, folder: Path, ids: npt.NDArray[np.bytes_]) -> None:
        self.folder, self.ids = folder, ids

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> "ImagePaths": ...
    def __getitem__(self, place: int | slice) -> "Path | ImagePaths":
        if isinstance(place, slice):
            return ImagePaths(self.folder, self.ids[place])
        return self.folder / os.fsdecode(bytes(self.ids[place]))


def image_paths(folder: Path, ids: Sequence[str], missing_ok: bool = False) -> ImagePaths:
    """The image files `folder`/id; no file is opened.

    Raises InputError that tells all ids at once which are absolute, contain `..`, lead out of the folder
    through links, or have no file, unless `missing_ok`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected the folder of the listed images")
    root = folder.resolve()
    found = ((name, path_problem(root, name)) for name in ids)
    wrong = [(name, told) for name, told in found if told and not (missing_ok and told.startswith(ABSENT))]
    raise_all(
        f"{folder}: {len(wrong)} of {len(ids)} listed images cannot be used",
        [f"{ID}={name!r}: {reason}" for name, reason in wrong],
    )
    return ImagePaths(folder, np.array([os.fsencode(name) for name in ids], dtype=np.bytes_))


def path_problem(root: Path, name: str) -> str:
    """Why `name` is no file within the resolved folder `root`, told for a message; empty if it is one."""
    if why := unsafe_reason(name):
        return why
    try:
        if not (root / name).resolve().is_relative_to(root):
            return "leads out of the folder through a link, expected a file within it"
        return "" if (root / name).is_file() else ABSENT[0]
    except (OSError, RuntimeError) as error:  # a name too long for the file system, or links in a circle
        return f"{ABSENT[1]} ({error})"
