"""Folders with a sub-folder of images for each class of one label, as `--data LABEL=FOLDER` names them."""

import os
from pathlib import Path

from data.images.find import IMAGE_EXTENSIONS

# One image of the table: its labels as text, its age in years, None where a label is missing.
Row = dict[str, str | float | None]


def split_label(source: Path) -> tuple[str, Path]:
    """Split LABEL=FOLDER; the label is empty for any other source, such as a folder that has this name.

    >>> label, folder = split_label(Path("mask=path/to/masks"))
    >>> label, str(folder), split_label(Path("path/to/a=b"))[0], str(split_label(Path("=masks"))[1])
    ('mask', 'path/to/masks', '', '=masks')
    """
    label, _, folder = str(source).partition("=")
    return ("", source) if not (label and folder) or os.sep in label or source.exists() else (label, Path(folder))


def read_classes(folder: Path, label: str, lenient: bool = False) -> tuple[list[Row], list[str]]:
    """Read the images in the sub-folders of `folder`; return a row for each and all problems.

    A row has `source`, `path`, `person` (the image's path in the folder: nobody is known to be on two) and `label`,
    the sub-folder's name. Hidden files and files without an image extension are ignored. If `lenient`, a folder or a
    broken link with an image's name is a row and no problem.
    """
    if not folder.is_dir():
        return [], [f"{label}={folder}: no such folder"]
    rows: list[Row] = []
    entries = list_visible(folder)
    classes = [entry for entry in entries if entry.is_dir()]
    outside = [entry for entry in entries if entry not in classes and entry.suffix.lower() in IMAGE_EXTENSIONS]
    problems = [f"{image}: an image outside a class folder, expected it in one" for image in outside]
    if not classes:
        problems.append(f"{folder}: no sub-folders, expected one with images for each class of {label}")
    for place in classes:
        inside = list_visible(place)
        images = [
            entry for entry in inside if entry.suffix.lower() in IMAGE_EXTENSIONS and (lenient or entry.is_file())
        ]
        folders = [entry for entry in inside if entry.is_dir() and entry not in images]
        problems += [f"{inner}: a folder inside a class folder, expected images only" for inner in folders]
        if not images and not folders:
            problems.append(f"{place}: no images, expected those of class {place.name!r}; remove the folder or fill it")
        names = [f"{place.name}/{image.name}" for image in images]
        rows += [
            {"source": str(folder), "path": f"{folder}/{name}", "person": name, label: place.name} for name in names
        ]
    return rows, problems


def list_visible(folder: Path) -> list[Path]:
    """List a folder's entries by name, without hidden ones (also macOS's `._x`)."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
