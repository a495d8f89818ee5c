"""Which files are pictures, told by their names alone."""

from pathlib import Path, PurePosixPath

IMAGE_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".jp2", ".tga")
)


def is_picture(name: str) -> bool:
    """Whether a file's name, relative to the folder that is looked through, is that of a picture.

    Nothing hidden is: neither macOS's `._a.jpg` nor what a hidden folder holds.

    >>> [is_picture(name) for name in ("a/b.JPG", "notes.txt", "a/._b.jpg", ".thumbnails/b.jpg")]
    [True, False, False, False]
    """
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_EXTENSIONS and not any(part.startswith(".") for part in path.parts)


def pictures_below(folder: Path) -> list[str]:
    """Names of all pictures below `folder`, relative to it, sorted; dead links too, to be told of."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(filter(is_picture, names))
