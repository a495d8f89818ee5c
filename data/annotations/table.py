"""Data folders and CSV files, as `--data` names them, as one table with one row per image."""

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from data.images.find import IMAGE_EXTENSIONS
from data.runtime.errors import raise_all
from data.runtime.files import read_csv, unsafe_reason

# The dtype `str`, in Python's strings: file names that are not UTF-8 do not fit in Arrow's, the default with pyarrow.
TEXT = pd.StringDtype("python", na_value=float("nan"))

GENDERS = ("male", "female")
MASK_OF_SHOT = {**{f"mask{n}": "wear" for n in range(1, 6)}, "incorrect_mask": "incorrect", "normal": "normal"}
NAME_EXPECTED = "expected a folder <id>_<gender>_<race>_<age>, such as 000123_female_Asian_34"
SHOTS_EXPECTED = f"expected one of {', '.join(MASK_OF_SHOT)}"
OLDEST = 120
AGE_EXPECTED = f"expected a whole number of years from 0 to {OLDEST}"
PATH_COLUMNS = ("path", "image", "file", "ImageID")
PERSON_COLUMNS = ("person", "group")
LABEL_COLUMNS = ("age", "gender", "mask")

# One image: its labels as text, its age in years, None where a label is missing.
Row = dict[str, str | float | None]

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
    texts = {name: [row.get(name) for row in rows] for name in columns}
    return pd.DataFrame({name: pd.Series(v, dtype="float64" if name == "age" else TEXT) for name, v in texts.items()})


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


def read_people(images: Path, lenient: bool = False) -> tuple[list[Row], list[str]]:
    """Read the folders of all people in `images`; return the rows and all problems.

    A row has `path`, `person` (the folder's name, since ids are not unique), `shot`, `id`, `age` in years,
    `gender`, `race` and `mask`. Hidden files and files without an image extension (notes, thumbnail indices)
    are ignored. If `lenient`, a folder or a broken link with an image's name is a row and no problem.
    """
    rows: list[Row] = []
    problems: list[str] = []
    for entry in _list_visible(images):
        if entry.is_dir():
            labels, bad_name = parse_folder_name(entry.name)
            shots, bad_files = _read_shots(entry, lenient)
            rows += [{**image, **labels, "mask": MASK_OF_SHOT[shot]} for shot, image in shots.items()]
            problems += [f"{entry}: {problem}" for problem in bad_name] + bad_files
        elif entry.suffix.lower() in IMAGE_EXTENSIONS:
            problems.append(f"{entry}: an image outside a person's folder, {NAME_EXPECTED}")
    if not rows and not problems:
        problems.append(f"{images}: no images, {NAME_EXPECTED} with the person's images")
    return rows, problems


def parse_folder_name(folder: str) -> tuple[Row, list[str]]:
    """Parse the labels in the name of a person's folder; return them and what is wrong with the name.

    >>> parse_folder_name("001498-1_male_Asian_23")[0]
    {'id': '001498-1', 'age': 23.0, 'gender': 'male', 'race': 'Asian'}
    >>> parse_folder_name("000123_femal_Asian_3O")[1]
    ["gender='femal', expected male or female", "age='3O', expected a whole number of years from 0 to 120"]
    """
    parts = folder.split("_")
    if len(parts) != 4 or not all(parts):
        return {}, [f"found {folder!r}, {NAME_EXPECTED}"]
    identity, gender, race, age = parts
    years = parse_age(age) if age.isdecimal() else None
    problems = []
    if gender not in GENDERS:
        problems.append(f"gender={gender!r}, expected {' or '.join(GENDERS)}")
    if years is None:
        problems.append(f"age={age!r}, {AGE_EXPECTED}")
    return {"id": identity, "age": years, "gender": gender, "race": race}, problems


def _read_shots(folder: Path, lenient: bool) -> tuple[dict[str, Row], list[str]]:
    """Return a person's images by shot, and the problems with the folder's files."""
    shots: dict[str, Row] = {}
    problems = []
    for entry in _list_visible(folder):
        is_image = (entry.is_file() or lenient) and entry.suffix.lower() in IMAGE_EXTENSIONS
        shot = entry.stem
        if entry.is_dir() and not is_image:
            problems.append(f"{entry}: a folder inside a person's folder, expected images only")
        elif shot in MASK_OF_SHOT and not is_image:
            problems.append(f"{entry}: not an image extension, expected one such as .jpg or .png")
        elif is_image and shot not in MASK_OF_SHOT:
            problems.append(f"{entry}: shot={shot!r}, {SHOTS_EXPECTED}")
        elif is_image and shot in shots:
            problems.append(f"{entry}: shot={shot!r} twice, also {shots[shot]['path']}; keep one of them")
        elif is_image:
            shots[shot] = {"path": str(entry), "person": folder.name, "shot": shot}
    if not shots and not problems:
        problems.append(f"{folder}: no images, {SHOTS_EXPECTED}")
    return shots, problems


def _list_visible(folder: Path) -> list[Path]:
    """List a folder's entries by name, without hidden ones (also macOS's `._x`)."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def parse_age(text: str) -> float | None:
    """Parse an age in years, 0..120, written as a whole number (`34`, or `34.0` as tables write it); else None.

    >>> parse_age("034"), parse_age("34.0"), parse_age("34.5"), parse_age("3O"), parse_age("121")
    (34.0, 34.0, None, None, None)
    """
    if not re.fullmatch(r"[0-9]+(\.0*)?", text) or float(text) > OLDEST:
        return None
    return float(text)


def read_labels(path: Path, roots: Sequence[Path], lenient: bool = False) -> tuple[list[Row], list[str]]:
    """Read a labels file; return its rows and all problems.

    A row has `path` (absolute), `person` (its `person`, else `group`, else its image's path), `age` in years as
    float, and every other column as text. The file's `source` becomes `csv_source`; `source` is the table's.

    Args:
        path: of the CSV file.
        roots: folders in which each image is looked for in turn.
        lenient: a missing image is a row and no problem.
    """
    table = read_csv(path)
    problems = table.problems + [f"{path}:1: {problem}" for problem in _column_problems(table.columns)]
    path_column = next((name for name in PATH_COLUMNS if name in table.columns), None)
    if path_column is None:
        return [], problems
    if not table.rows and not problems:
        problems.append(f"{path}: no rows, expected one line per image")
    rows: list[Row] = []
    first_line: dict[str, int] = {}
    for line, values in table.rows:
        row: Row = {"person": values.get("person") or values.get("group") or values[path_column]}
        for name, value in values.items():
            if name not in (path_column, "person"):
                row["csv_source" if name == "source" else name] = value or None
        problem, row["path"] = _find(values[path_column], roots, lenient)
        if not problem and first_line.setdefault(str(row["path"]), line) != line:
            problem = f"is already on line {first_line[str(row['path'])]}"
        if problem:
            problems.append(f"{path}:{line}: {path_column}={values[path_column]!r}, {problem}")
        if age := values.get("age"):
            row["age"] = parse_age(age)
            if row["age"] is None:
                problems.append(f"{path}:{line}: age={age!r}, {AGE_EXPECTED}")
        rows.append(row)
    return rows, problems


def _column_problems(columns: Sequence[str]) -> list[str]:
    """Describe columns whose names would hide them: known ones in other letters, and a missing path."""
    problems = [
        f"column {name!r}, expected {name.casefold()!r}; rename it"
        for name in columns
        if name != name.casefold() and name.casefold() in (*PERSON_COLUMNS, *LABEL_COLUMNS)
    ]
    if columns and not set(PATH_COLUMNS) & set(columns):
        expected = f"expected one of {', '.join(PATH_COLUMNS)} with the image's path"
        problems.append(f"columns {', '.join(columns)}, {expected}")
    return problems


def _find(file: str, roots: Sequence[Path], lenient: bool) -> tuple[str, str]:
    """Return the problem with an image's relative path (empty if none), and the image's absolute path."""
    if not file:
        return "expected an image's path", file
    if unsafe_reason(file):
        return "expected a path inside the image folder, without '..' and not absolute", file
    found = next((root / file for root in roots if (root / file).is_file()), None)
    if found is None and lenient:
        found = roots[0] / file
    if found is None:
        return f"no such file in {' or '.join(str(root) for root in roots)}", file
    return "", str(found)
