"""Paths of listed images, checked to be files within the one folder that holds them."""

from collections.abc import Sequence
from pathlib import Path

from data.images.find import ID
from data.runtime.errors import InputError, raise_all
from data.runtime.files import unsafe_reason

ABSENT = ("no such file", "cannot be followed")  # first words of reasons that `missing_ok` accepts


def image_paths(folder: Path, ids: Sequence[str], missing_ok: bool = False) -> list[str]:
    """Join `folder` and each id; no file is opened.

    Raises InputError that names all ids at once which are absolute, contain `..`, lead out of the folder
    through links, or have no file, unless `missing_ok`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected the folder of the listed images")
    root = folder.resolve()
    reasons = ((name, path_problem(root, name)) for name in ids)
    bad = [(name, why) for name, why in reasons if why and not (missing_ok and why.startswith(ABSENT))]
    raise_all(
        f"{folder}: {len(bad)} of {len(ids)} listed images cannot be used",
        [f"{ID}={name!r}: {reason}" for name, reason in bad],
    )
    return [str(folder / name) for name in ids]


def path_problem(root: Path, name: str) -> str:
    """Why `name` is no file within the resolved folder `root`; empty if it is one."""
    if why := unsafe_reason(name):
        return why
    try:
        if not (root / name).resolve().is_relative_to(root):
            return "leads out of the folder through a link, expected a file within it"
        return "" if (root / name).is_file() else ABSENT[0]
    except (OSError, RuntimeError) as error:  # a name too long for the file system, or links in a circle
        return f"{ABSENT[1]} ({error})"
