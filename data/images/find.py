"""Which files are images, told by their names alone, and which of a folder's are to be answered."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from data.annotations.listing import ID, read_listing
from data.runtime.errors import InputError, raise_all
from data.runtime.file_names import check_writable_names, unsafe_reason

IMAGE_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".jp2", ".tga")
)
LISTING, IMAGES = "info.csv", "images"
PARQUET_LISTING = "info.parquet"  # may be too long for one machine


def is_image_name(name: str) -> bool:
    """Whether a file's name, relative to the folder that is looked through, is that of an image.

    Nothing hidden is: neither macOS's `._a.jpg` nor what a hidden folder holds.

    >>> [is_image_name(name) for name in ("a/b.JPG", "notes.txt", "a/._b.jpg", ".thumbnails/b.jpg")]
    [True, False, False, False]
    """
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_EXTENSIONS and not any(part.startswith(".") for part in path.parts)


def find_images(folder: Path) -> list[str]:
    """Names of all images below `folder`, relative to it, sorted; dead links too, to be told of.

    Links to folders are followed, but for those to a folder that holds them, which would go round for ever.
    """
    return sorted(filter(is_image_name, _files_below(folder)))


def list_images(data: Path) -> tuple[list[str], Path]:
    """Ids of the images to answer and the folder that holds them: the one rule for every folder without labels.

    Where `data` has an info.csv, they are its ids, in its order, in `data`/images. Any other folder is one of
    images, whatever it is divided into; their names below it, sorted, are their ids.

    Raises:
        InputError: no such folder, a wrong listing, one that only a cluster reads, no image, or a name that is
            not UTF-8.
    """
    listing = data / LISTING
    if listing.exists() or listing.is_symlink():
        return read_listing(listing), data / IMAGES
    expected = f"expected a folder of images, or one that holds {LISTING} and {IMAGES}/"
    if not data.is_dir():
        raise InputError(f"{data}: no such folder, {expected}")
    if (data / PARQUET_LISTING).exists():  # whose ids are not those that the folder's own names would be
        told = f"{data / PARQUET_LISTING}: a listing that combine.py --place ray alone reads"
        raise InputError(f"{told}, expected {LISTING} here")
    names = find_images(data)
    if not names:
        raise InputError(f"{data}: found no image, {expected}")
    check_writable_names(str(data), names)
    return names, data


def list_image_paths(data: Path) -> list[str]:
    """Absolute paths of the images of `list_images`, links as they are; listed ones need not be there.

    Raises:
        InputError: as `list_images` does, and for listed ids that lead out of the folder.
    """
    names, folder = list_images(data)
    found = ((name, unsafe_reason(name)) for name in names)
    raise_all(f"{folder}: images that cannot be used", [f"{ID}={name!r}: {why}" for name, why in found if why])
    return [os.path.abspath(folder / name) for name in names]  # noqa: PTH100


def _files_below(folder: Path) -> Iterator[str]:
    """Names of what is below a folder and is no folder itself, relative to it; nothing of hidden folders."""
    # With each folder the real one that it is, after those in which the links stand that led there.
    waiting: list[tuple[str, tuple[Path, ...]]] = [("", (folder.resolve(),))]
    while waiting:
        prefix, around = waiting.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                name, linked = prefix + entry.name, entry.is_symlink()
                if not (Path(entry).is_dir() if linked else entry.is_dir()):  # the entry's fails on circles
                    yield name
                elif entry.name.startswith("."):
                    continue
                elif not linked:
                    waiting.append((f"{name}/", (*around[:-1], around[-1] / entry.name)))
                elif not any(each.is_relative_to(Path(entry).resolve()) for each in around):
                    waiting.append((f"{name}/", (*around, Path(entry).resolve())))
