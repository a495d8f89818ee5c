"""Data folders and CSV files, as `--data` names them, to one table with one row per image."""

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from data.annotations.challenge import NAME_EXPECTED, parse_folder_name, read_people
from data.annotations.labels_csv import Row, read_labels
from data.runtime.errors import raise_all

# Files may have names that are not UTF-8, which pandas' own strings can hold, and not Arrow's, which it takes
# where pyarrow is installed.
pd.set_option("mode.string_storage", "python")

OWN_COLUMNS = ("source", "path", "person", "shot")
LABELS_FILE = "labels.csv"
# A source before another one's person: whose images `data.masked` drew.
_DRAWN = re.compile(r"[^/]*-[0-9a-f]{8}(-\d+)?/(?=[^/]*-[0-9a-f]{8}(-\d+)?/)")


def read_table(sources: Sequence[Path], lenient: bool = False) -> pd.DataFrame:
    """Read all images and labels of `sources` into one table.

    A source is the challenge's `train/` folder, its `train/images`, the folder above, a folder with
    `labels.csv` and `images/`, or a CSV file whose paths are relative to its folder, else to `images/` there.

    Returns one row per image, in the order of the sources and sorted by path within each, RangeIndex:
    `source` (str: absolute path of the data folder, or of the CSV file where one was given), `path` (str,
    absolute), `person` (str), `shot` (str, missing outside the challenge's layout), then the labels: `age` in
    years as float (NaN: not known), every other column as str (missing where the file has nothing).

    `person` is `<data folder's name>-<digest>/<person's name in it>`. The digest is taken over the source's
    file names, so that people of two sources never mix, and a person keeps the name wherever the folder lies
    and whatever else is given (only an exact copy of a source given before gets a number after it).

    Raises `InputError` telling every bad folder and row of all sources at once; where `lenient`, an image
    that is not there, or is no file, is a row all the same, for whoever decodes it to tell.
    """
    rows: list[Row] = []
    problems: list[str] = [] if sources else ["no data folder given; name one with --data"]
    copies: dict[str, int] = {}
    for source in sources:
        # Not resolved: the user's names stay readable, and a linked `images` keeps its place below `train`.
        place = Path(os.path.abspath(source))  # noqa: PTH100
        try:
            found, bad = _read_source(place, lenient)
        except OSError as error:
            found, bad = [], [f"{error.filename or place}: cannot be read ({error.strerror})"]
        found.sort(key=lambda row: str(row["path"]))
        prefix = _prefix(found, copies)
        for row in found:
            row["person"] = f"{prefix}/{row['person']}"
        rows += found
        problems += bad
    # Wrong rows can look like twins, so that twins are told only where everything else is right.
    problems = problems or _find_duplicates(rows)
    raise_all(
        f"the data cannot be read ({len(problems)} problem{'s' if len(problems) != 1 else ''}):", problems
    )
    return _as_table(rows)


def person_name(person: str) -> str:
    """A person's name inside the data folder, from the table's `person`: the challenge's folder name.

    >>> person_name("train-0123abcd/000123_female_Asian_34")
    '000123_female_Asian_34'
    """
    return person.partition("/")[2] or person


def original_person(person: str) -> str:
    """Who a person of drawn images (`data.masked`, once or again) is in the data that was drawn on.

    >>> original_person("m2-01234567/m1-89abcdef/train-0123abcd/anna"), original_person("train-0123abcd/anna")
    ('train-0123abcd/anna', 'train-0123abcd/anna')
    """
    while drawn := _DRAWN.match(person):
        person = person[drawn.end() :]
    return person


def source_name(person: str) -> str:
    """What names a person's data folder and its content, in the table's `person`.

    >>> source_name("train-0123abcd/000123_female_Asian_34")
    'train-0123abcd'
    """
    return person.partition("/")[0]


def source_folder(source: Path) -> Path:
    """The folder that a source's paths count from: itself, or the one that its CSV file is in."""
    return source.parent if source.is_file() else source


def _read_source(source: Path, lenient: bool) -> tuple[list[Row], list[str]]:
    """One source's rows, each with its `source`, and its problems."""
    name = str(source)
    if source.is_file() and source.suffix.lower() == ".csv":
        rows, problems = read_labels(source, [source.parent, source.parent / "images"], lenient)
    elif source.is_file():
        rows, problems = [], [f"{source}: a file, expected a data folder or a CSV file"]
    elif not source.is_dir():
        rows, problems = [], [f"{source}: no such folder or file"]
    elif (source / LABELS_FILE).is_file():
        rows, problems = read_labels(source / LABELS_FILE, [source / "images", source], lenient)
    else:
        images = _images_folder(source)
        name = str(images.parent if images.name == "images" else images)
        rows, problems = read_people(images, lenient)
        names = [entry.name for entry in images.iterdir() if not entry.name.startswith(".")]
        if problems and names and not any(parse_folder_name(each)[0] for each in names):
            found = f"{source}: neither {LABELS_FILE} nor a person's folder, {NAME_EXPECTED}"
            problems = [f"{found}; of other images write {LABELS_FILE} (path, age, ...) beside images/"]
    for row in rows:
        row["source"] = name
    return rows, problems


def _images_folder(folder: Path) -> Path:
    """The folder that holds the people's folders: below `folder`, or `folder` itself."""
    below = (folder / "images", folder / "train" / "images")
    return next((images for images in below if images.is_dir()), folder)


def _prefix(rows: Sequence[Row], copies: dict[str, int]) -> str:
    """A name for a source that tells it from other sources; counts in `copies` how often it came."""
    if not rows:
        return ""
    source = Path(str(rows[0]["source"]))
    folder = str(source_folder(source))
    files = "\n".join(str(row["path"]).removeprefix(folder) for row in rows)
    digest = hashlib.sha256(files.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    prefix = f"{source.name}-{digest}"
    copies[prefix] = copies.get(prefix, 0) + 1
    return prefix if copies[prefix] == 1 else f"{prefix}-{copies[prefix]}"


def _find_duplicates(rows: Sequence[Row]) -> list[str]:
    """Images that several sources hold: they would count twice and could fall in two folds."""
    real_folder = lru_cache(maxsize=None)(os.path.realpath)
    first: dict[str, Row] = {}
    problems = []
    for row in rows:
        folder, file = os.path.split(str(row["path"]))
        other = first.setdefault(os.path.join(real_folder(folder), file), row)  # noqa: PTH118
        if other is not row:
            problems.append(f"{row['path']}: given by {other['source']} and again by {row['source']}")
    return problems


def _as_table(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a table: its own columns first, then the labels in the order in which they came."""
    columns = dict.fromkeys([*OWN_COLUMNS, *(name for row in rows for name in row)])
    values = {name: [row.get(name) for row in rows] for name in columns}
    return pd.DataFrame(
        {
            name: pd.Series(column, dtype="float64" if name == "age" else "str")
            for name, column in values.items()
        }
    )
