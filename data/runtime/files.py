"""Whole files and folders or none: they are written beside their place and renamed there when complete."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.runtime.errors import InputError

UNFINISHED = "unfinished-"
FOREIGN = ".tmp??????"  # what safetensors writes beside our own temporary file before it renames that


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` once the block ends without an error.

    A reader sees the old file or the new one, never a part; a failure leaves the old file as it was.
    The temporary name keeps the suffix, since some writers (numpy's savez) go by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.{UNFINISHED}", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename in (None, name):
            error.filename = str(path)  # what the user knows it by
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; rename it to `path` once the block ends without an error.

    A failure or a signal leaves nothing, so that the same call can be made again. What is in the folder is not
    flushed, since it may be thousands of files: the promise holds for a killed process, not a loss of power.

    Raises:
        InputError: something is at `path` already, other than an empty folder.
    """
    place = path.resolve()  # through a link, and with a name where the user says "."
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise InputError(f"{path}: exists and is not an empty folder; name a new folder or remove it first")
    if place.is_mount():
        raise InputError(f"{path}: a disk is mounted there, expected a folder in it; name one")
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        whole = beside / place.name  # mkdtemp's own folder is private, and this one is for the user to share
        whole.mkdir()
        yield whole
        whole.replace(place)
    except OSError as error:
        if error.errno is not None and str(error.filename or beside).startswith(str(beside)):
            error.filename = str(path)  # what the user knows it by
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # the failure is what is told, not what is left of it


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_unfinished(folder: Path, stem: str = "*") -> None:
    """Remove what killed writers of `stem` (of anything) left in `folder`; nobody may be writing that there."""
    patterns = [f".{stem}.{UNFINISHED}*", *([FOREIGN] if stem == "*" else [])]
    for remains in [path for pattern in patterns for path in folder.glob(pattern)]:
        remains.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename outlives a loss of power, where the file system can do so."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's umask: mkstemp makes files private, but what we write is for the user to share."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
