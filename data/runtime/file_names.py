"""Names of files that others wrote, looked at before any is opened."""

from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

from data.runtime.errors import raise_all


def unsafe_reason(name: str) -> str:
    """Why a file's name could lead out of its folder, on any system, or names no file; empty if neither.

    >>> unsafe_reason("backbones/a.safetensors")
    ''
    >>> unsafe_reason("../a"), unsafe_reason("C:a")[:13]
    ("contains '..', expected a path that stays within the folder", 'names a drive')
    """
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    if "\0" in name:
        return "contains a NUL character, expected a file name"
    if "://" in name:
        return "is a URL, expected a path relative to the folder"
    if any(kind.root for kind in kinds):
        return "is an absolute path, expected one relative to the folder"
    if kinds[1].drive:  # which begins, on Windows, at wherever that drive's own current folder is
        return "names a drive, expected a path relative to the folder"
    if any(".." in kind.parts for kind in kinds):
        return "contains '..', expected a path that stays within the folder"
    return ""


def is_outside(name: str | None) -> bool:
    """Whether `unsafe_reason` has anything against a file's name: nothing that travels should have such a one.

    >>> [is_outside(name) for name in ("imagenet", "backbones/a.safetensors", "/etc/passwd", "../a", "C:\\\\a")]
    [False, False, True, True, True]
    """
    return name is not None and bool(unsafe_reason(name))


def check_writable_names(where: str, names: Iterable[str]) -> None:
    """Raise an `InputError` that tells all `names` which no CSV of ours can hold.

    They are not UTF-8, or have a carriage return, which Python's writer leaves bare and readers end a row at.
    """
    unwritable = [name for name in names if "\r" in name or name != name.encode("utf-8", "replace").decode()]
    raise_all(
        f"{where}: names that are not UTF-8 or have a carriage return, expected others", map(repr, unwritable)
    )
