"""The images to answer: those that a listing names, all within one folder, or a folder's own."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import overload

import numpy as np
import numpy.typing as npt

from data.errors import InputError, refuse
from data.pictures import pictures_below
from ensemble.submission import ID, read_listing

ABSENT = ("no such file", "cannot be followed")  # how reasons begin that harm nobody


def listed_images(data: Path) -> tuple[list[str], Path]:
    """Ids of the images to answer and the folder that holds them.

    They are those of `data`/info.csv, in its order, in `data`/images. A folder with neither of the two is one
    of images; their names below it, sorted, are their ids.

    Raises:
        InputError: no such folder, a listing that is not there or wrong, no image, or a name that is not UTF-8.
    """
    listing, images = data / "info.csv", data / "images"
    if listing.exists() or images.exists():
        return read_listing(listing), images
    expected = "expected a folder of images, or one that holds info.csv and images/"
    if not data.is_dir():
        raise InputError(f"{data}: no such folder, {expected}")
    names = pictures_below(data)
    if not names:
        raise InputError(f"{data}: found no image, {expected}")
    unwritable = [name for name in names if name != name.encode("utf-8", "replace").decode()]
    refuse(f"{data}: names that are not UTF-8, expected others", [repr(name) for name in unwritable])
    return names, data


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
    found = ((name, _why_unusable(root, name)) for name in ids)
    wrong = [(name, told) for name, told in found if told and not (missing_ok and told.startswith(ABSENT))]
    refuse(
        f"{folder}: {len(wrong)} of {len(ids)} listed images cannot be used",
        [f"{ID}={name!r}: {reason}" for name, reason in wrong],
    )
    return ImagePaths(folder, np.array([os.fsencode(name) for name in ids], dtype=np.bytes_))


def _why_unusable(root: Path, name: str) -> str:
    """Why `name` is no image within the resolved folder `root`; empty if it is one."""
    if "\0" in name:
        return "contains a NUL character, expected a file name"
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    if any(kind.is_absolute() for kind in kinds):
        return "is an absolute path, expected one relative to the folder"
    if any(".." in kind.parts for kind in kinds):
        return "contains '..', expected a path that stays within the folder"
    try:
        if not (root / name).resolve().is_relative_to(root):
            return "leads out of the folder through a link"
        return "" if (root / name).is_file() else ABSENT[0]
    except (OSError, RuntimeError) as error:  # a name too long for the file system, or links in a circle
        return f"{ABSENT[1]} ({error})"
