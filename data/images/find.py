"""Lists of the images to predict: the ids of info.csv, or all images below a folder."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from data.runtime.errors import InputError, raise_all
from data.runtime.files import check_writable_names, read_csv, unsafe_reason

ID = "ImageID"
IMAGE_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".jp2", ".tga")
)
LISTING, IMAGES = "info.csv", "images"
PARQUET_LISTING = "info.parquet"  # may be too long for one machine
MAX_EXAMPLES = 3
ABSENT = ("no such file", "cannot be followed")  # first words of the reasons that `missing_ok` accepts


def read_id_rows(
    path: Path, required: Sequence[str] = (ID,), optional: Sequence[str] = ()
) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Read a CSV file with one row per image; see `read_csv` for the arguments.

    Returns (line in the file, value by column) for each row, and the problems with the ids: empty or repeated.
    Raises `InputError` for all other problems, and for a file without rows.
    """
    table = read_csv(path, required, optional)
    raise_all(f"{path}: expected a CSV file with {', '.join(required)}", table.problems)
    if not table.rows:
        raise InputError(f"{path}: no rows after the heading, expected one per image")
    lines: dict[str, list[int]] = {}
    for line, row in table.rows:
        lines.setdefault(row[ID] if row[ID].strip() else "", []).append(line)
    problems = [f"row {line}: {ID} is empty" for line in lines.pop("", [])]
    for name, found in lines.items():
        if len(found) > 1:
            listed = ", ".join(map(str, found[:MAX_EXAMPLES])) + (", ..." if len(found) > MAX_EXAMPLES else "")
            problems.append(f"rows {listed}: {ID}={name!r} is there {len(found)} times, expected once")
    return table.rows, problems


def read_listing(path: Path) -> list[str]:
    """Read the image ids of a listing such as info.csv, in its order; `InputError` for a bad one."""
    rows, problems = read_id_rows(path)
    raise_all(f"{path}: bad rows", problems)
    return [row[ID] for _, row in rows]


def is_image_name(name: str) -> bool:
    """Whether a file name, relative to the searched folder, is that of an image; hidden files are not.

    >>> [is_image_name(name) for name in ("a/b.JPG", "notes.txt", "a/._b.jpg", ".thumbnails/b.jpg")]
    [True, False, False, False]
    """
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_EXTENSIONS and not any(part.startswith(".") for part in path.parts)


def find_images(folder: Path) -> list[str]:
    """List all images below `folder`, sorted and relative to it, with broken links.

    Links to folders are followed, except to a folder that contains them.
    """
    return sorted(filter(is_image_name, _files_below(folder)))


def list_images(data: Path) -> tuple[list[str], Path]:
    """List the ids of the images to predict, and the folder that holds them.

    If `data` has an info.csv, they are its ids, in its order, in `data`/images. Otherwise they are the names of
    all images below `data`, sorted.

    Raises:
        InputError: no such folder, a bad listing or one that only a cluster reads, no image, or a name that is
            not UTF-8.
    """
    listing = data / LISTING
    if listing.exists() or listing.is_symlink():
        return read_listing(listing), data / IMAGES
    expected = f"expected a folder of images, or one that holds {LISTING} and {IMAGES}/"
    if not data.is_dir():
        raise InputError(f"{data}: no such folder, {expected}")
    if (data / PARQUET_LISTING).exists():  # its ids are not the names of the folder's files
        found = f"{data / PARQUET_LISTING}: a listing for a cluster (python -m ensemble.cluster)"
        raise InputError(f"{found}, expected {LISTING} here")
    names = find_images(data)
    if not names:
        raise InputError(f"{data}: found no image, {expected}")
    check_writable_names(str(data), names)
    return names, data


def list_image_paths(data: Path) -> list[str]:
    """List the absolute paths of the images of `list_images`, which need not exist; links are not resolved.

    Raises `InputError` as it does, and for ids that lead out of the folder.
    """
    names, folder = list_images(data)
    found = ((name, unsafe_reason(name)) for name in names)
    raise_all(f"{folder}: images that cannot be used", [f"{ID}={name!r}: {why}" for name, why in found if why])
    return [os.path.abspath(folder / name) for name in names]  # noqa: PTH100


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
    path = os.path.join(root, name)  # noqa: PTH118 (pathlib takes a second for ten thousand images)
    if os.path.realpath(path) == path and os.path.isfile(path):  # noqa: PTH113
        return ""
    try:
        if not (root / name).resolve().is_relative_to(root):
            return "leads out of the folder through a link, expected a file within it"
        return "" if (root / name).is_file() else ABSENT[0]
    except (OSError, RuntimeError) as error:  # a name too long for the file system, or links in a circle
        return f"{ABSENT[1]} ({error})"


def _files_below(folder: Path) -> Iterator[str]:
    """Yield the relative names of all files below a folder, skipping hidden folders."""
    # Each folder with its real path and the real paths of the folders whose links led to it.
    waiting: list[tuple[str, tuple[Path, ...]]] = [("", (folder.resolve(),))]
    while waiting:
        prefix, around = waiting.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                name, linked = prefix + entry.name, entry.is_symlink()
                is_folder = Path(entry).is_dir() if linked else entry.is_dir()  # the latter fails on circular links
                if not is_folder:
                    yield name
                elif entry.name.startswith("."):
                    continue
                elif not linked:
                    waiting.append((f"{name}/", (*around[:-1], around[-1] / entry.name)))
                elif not any(each.is_relative_to(Path(entry).resolve()) for each in around):
                    waiting.append((f"{name}/", (*around, Path(entry).resolve())))
