"""Data folders and CSV files, as `--data` names them, as one table with one row per image."""

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from data.annotations.sources import NAME_EXPECTED, Row, parse_folder_name, read_labels, read_people
from data.runtime.errors import raise_all

# File names that are not UTF-8 fit in pandas' own strings, not in Arrow's, the default with pyarrow installed.
pd.set_option("mode.string_storage", "python")

OWN_COLUMNS = ("source", "path", "person", "shot")
LABELS_FILE = "labels.csv"
# A source of derived images (`data.masked`) before the source of the person in a table's `person`.
_DERIVED = re.compile(r"[^/]*-[0-9a-f]{8}(-\d+)?/(?=[^/]*-[0-9a-f]{8}(-\d+)?/)")


def read_table(sources: Sequence[Path], lenient: bool = False) -> pd.DataFrame:
    """Read all images and labels of `sources` into one table; read it once per run and pass it on.

    Returns one row per image, in the order of the sources and sorted by path within each, RangeIndex:
    `source` (str: absolute path of the data folder or CSV file), `path` (str, absolute), `person` (str), `shot`
    (str, missing outside the challenge's layout), then the labels: `age` in years as float (NaN: unknown), all
    other columns as str (missing where the file has nothing).

    `person` is `<data folder's name>-<digest>/<person's name in it>`. The digest is taken over the source's
    file names, so that people of two sources never mix, and a person keeps the name wherever the folder lies
    and whatever else is given (only an exact copy of an earlier source gets a number after it).

    Args:
        sources: each is the challenge's `train/` folder, its `train/images`, the folder above, a folder with
            `labels.csv` and `images/`, or a CSV file; its paths are relative to its folder or `images/` there.
        lenient: accept images that are missing or no files; decoding them will fail.

    Raises:
        InputError: all bad folders and rows of all sources.
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
    problems = problems or _find_duplicates(rows)  # bad rows can look like duplicates
    raise_all(f"the data cannot be read (problems: {len(problems)}):", problems)
    columns = dict.fromkeys([*OWN_COLUMNS, *(name for row in rows for name in row)])
    types = {name: "float64" if name == "age" else "str" for name in columns}
    return pd.DataFrame({n: pd.Series([row.get(n) for row in rows], dtype=kind) for n, kind in types.items()})


def person_name(person: str) -> str:
    """Return a person's name in the data folder, from the table's `person`: the challenge's folder name.

    >>> person_name("train-0123abcd/000123_female_Asian_34")
    '000123_female_Asian_34'
    """
    return person.partition("/")[2] or person


def original_person(person: str) -> str:
    """Return the person whose images a derived person's images were made from (`data.masked`, once or again).

    >>> original_person("m2-01234567/m1-89abcdef/train-0123abcd/anna"), original_person("train-0123abcd/anna")
    ('train-0123abcd/anna', 'train-0123abcd/anna')
    """
    while derived := _DERIVED.match(person):
        person = person[derived.end() :]
    return person


def source_name(person: str) -> str:
    """Return the name and digest of a person's source, from the table's `person`.

    >>> source_name("train-0123abcd/000123_female_Asian_34")
    'train-0123abcd'
    """
    return person.partition("/")[0]


def source_folder(source: Path) -> Path:
    """Return a source's folder: itself, or its CSV file's."""
    return source.parent if source.is_file() else source


def _read_source(source: Path, lenient: bool) -> tuple[list[Row], list[str]]:
    """Return a source's rows, each with its `source`, and its problems."""
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
        below = (source / "images", source / "train" / "images")
        images = next((folder for folder in below if folder.is_dir()), source)
        name = str(images.parent if images.name == "images" else images)
        rows, problems = read_people(images, lenient)
        names = [entry.name for entry in images.iterdir() if not entry.name.startswith(".")]
        if problems and names and not any(parse_folder_name(each)[0] for each in names):
            found = f"{source}: neither {LABELS_FILE} nor a person's folder, {NAME_EXPECTED}"
            problems = [f"{found}; for other images write {LABELS_FILE} (path, age, ...) beside images/"]
    for row in rows:
        row["source"] = name
    return rows, problems


def _prefix(rows: Sequence[Row], copies: dict[str, int]) -> str:
    """Name a source so that it differs from other sources; `copies` counts how often each name came."""
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
    """Find images in several sources: they would count twice and could be in two folds."""
    real_folder = lru_cache(maxsize=None)(os.path.realpath)
    first: dict[str, Row] = {}
    problems = []
    for row in rows:
        folder, file = os.path.split(str(row["path"]))
        other = first.setdefault(os.path.join(real_folder(folder), file), row)  # noqa: PTH118
        if other is not row:
            problems.append(f"{row['path']}: given by {other['source']} and again by {row['source']}")
    return problems
