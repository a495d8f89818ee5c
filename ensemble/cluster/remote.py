"""Files here or elsewhere, by path or URL (s3://, gs://, file://), through fsspec."""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from data.images.find import find_images, is_image_name
from data.runtime.errors import InputError
from data.runtime.files import check_writable_names, write_atomically

join = posixpath.join


def open_filesystem(place: str) -> tuple[Any, str]:
    """Return the file system of `place` and its path there; `InputError` for an unknown or unsupported URL.

    fsspec caches file systems per process and takes credentials from the environment (AWS_ACCESS_KEY_ID,
    AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS and so on).
    """
    try:
        system, path = fsspec.core.url_to_fs(place)
    except ImportError as error:
        raise InputError(f"{place}: cannot be reached: {error}; see requirements-ray.txt") from None
    except ValueError as error:
        expected = "expected a path, s3://, gs:// or another that fsspec knows"
        raise InputError(f"{place}: {error}; {expected}") from None
    return system, path


def local_folder(place: str) -> Path | None:
    """Return a folder on this machine, its links resolved; None for one elsewhere."""
    system, path = open_filesystem(place)
    return Path(path).resolve() if isinstance(system, LocalFileSystem) else None


def read_bytes(place: str) -> bytes:
    """Read a file; `InputError` if it cannot be read."""
    system, path = open_filesystem(place)
    try:
        data: bytes = system.cat_file(path)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise InputError(f"{place}: cannot be read ({reason}), expected a file") from None
    return data


def write_bytes(place: str, data: bytes) -> None:
    """Write a file atomically: by renaming here, by one upload to an object store."""
    system, path = open_filesystem(place)
    if isinstance(system, LocalFileSystem):
        with write_atomically(Path(path)) as temporary:
            temporary.write_bytes(data)
    else:
        system.pipe_file(path, data)


def exists(place: str) -> bool:
    """Whether a file or a folder is there."""
    system, path = open_filesystem(place)
    return bool(system.exists(path))


def state_of(place: str) -> str:
    """Describe a file's state, which changes with its content, by size and time or an object's tag."""
    system, path = open_filesystem(place)
    info = system.info(path)
    return f"{info['size']} {info.get('ETag') or info.get('etag') or info.get('mtime') or ''}"


def names_in(folder: str) -> set[str]:
    """List the names of the files directly in a folder; none if there is no folder."""
    system, path = open_filesystem(folder)
    system.invalidate_cache(path)
    if not system.exists(path):
        return set()
    return {posixpath.basename(found) for found in system.ls(path, detail=False)}


def find_images_below(folder: str) -> Iterator[str]:
    """Yield the names of all images below a folder, relative to it and sorted; local links are followed.

    Raises:
        InputError: a local name that no CSV can hold.
    """
    system, path = open_filesystem(folder)
    if isinstance(system, LocalFileSystem):
        names = find_images(Path(path)) if Path(path).is_dir() else []
        check_writable_names(folder, names)
        yield from names
    else:
        start = path.rstrip("/") + "/"
        yield from filter(is_image_name, (found.removeprefix(start) for found in sorted(system.find(path))))
