"""Names of files that others wrote, looked at before any is opened."""

from pathlib import PurePosixPath, PureWindowsPath


def leads_outside(name: str | None) -> bool:
    """Whether a file's name is absolute or holds `..`, on any system: nothing that travels should have one.

    >>> [leads_outside(name) for name in ("imagenet", "trunks/a.safetensors", "/etc/passwd", "../a", "C:\\\\a")]
    [False, False, True, True, True]
    """
    kinds = () if name is None else (PurePosixPath(name), PureWindowsPath(name))
    return any(kind.anchor or ".." in kind.parts for kind in kinds)
