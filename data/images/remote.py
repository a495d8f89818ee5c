"""Files and folders here or elsewhere, by path or by URL (s3://, gs://, file://), through fsspec."""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from data.images.find import find_images, is_image_name
from data.runtime.errors import InputError
from data.runtime.file_names import check_writable_names
from data.runtime.files import write_atomically


def join(place: str, *names: str) -> str:
    """A place below another.

    >>> join("s3://faces/eval/", "images", "a.jpg")
    's3://faces/eval/images/a.jpg'
    """
    return posixpath.join(place, *names)


def open_filesystem(place: str) -> tuple[Any, str]:
    """The file system of `place` and its path there; what is missing to reach it is told as `InputError`.

    File systems are kept by fsspec, one for each process and each set of credentials, which it takes from the
    environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS and so on).
    """
    try:
        system, path = fsspec.core.url_to_fs(place)
    except ImportError as error:
        raise InputError(f"{place}: cannot be reached: {error}; see requirements-ray.txt") from None
    except ValueError as error:
        raise InputError(
            f"{place}: {error}; expected a path, s3://, gs:// or another that fsspec knows"
        ) from None
    return system, path


def local_folder(place: str) -> Path | None:
    """A folder on this machine, its links followed; None for one elsewhere."""
    system, path = open_filesystem(place)
    return Path(path).resolve() if isinstance(system, LocalFileSystem) else None


def read_bytes(place: str) -> bytes:
    """A file's bytes; `InputError` where it cannot be read."""
    system, path = open_filesystem(place)
    try:
        data: bytes = system.cat_file(path)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise InputError(f"{place}: cannot be read ({reason}), expected a file") from None
    return data


def write_bytes(place: str, data: bytes) -> None:
    """Write a file whole or not at all: by renaming here, by one upload into an object store."""
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
    """What tells one content of a file from another without reading it: size and time, or an object's tag."""
    system, path = open_filesystem(place)
    info = system.info(path)
    return f"{info['size']} {info.get('ETag') or info.get('etag') or info.get('mtime') or ''}"


def names_in(folder: str) -> set[str]:
    """Names of the files that stand directly in a folder; none where there is no folder."""
    system, path = open_filesystem(folder)
    system.invalidate_cache(path)
    if not system.exists(path):
        return set()
    return {posixpath.basename(found) for found in system.ls(path, detail=False)}


def find_images_below(folder: str) -> Iterator[str]:
    """Names of all images below a folder, relative to it and in order; on this machine links are followed.

    Raises:
        InputError: a name on this machine that no CSV can hold.
    """
    system, path = open_filesystem(folder)
    if isinstance(system, LocalFileSystem):
        names = find_images(Path(path)) if Path(path).is_dir() else []
        check_writable_names(folder, names)
        yield from names
        return
    start = path.rstrip("/") + "/"
    yield from filter(is_image_name, (found.removeprefix(start) for found in sorted(system.find(path))))
