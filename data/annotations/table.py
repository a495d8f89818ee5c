"""Data folders and CSV files, as `--data` names them, as one table with one row per image."""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.class_folders import Row, list_visible, read_classes, split_label
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

OWN_COLUMNS = ("source", "path", "person", "shot")
DERIVED_FROM, ORIGINAL_SOURCE = "derived_from", "original_source"  # columns of images made from others (`data.masked`)
# Columns that are no labels, and the age, which is a number.
NOT_CLASSES = (*OWN_COLUMNS, *PATH_COLUMNS, *PERSON_COLUMNS, DERIVED_FROM, ORIGINAL_SOURCE, "age")
LABELS_FILE = "labels.csv"
# Version 0.1 wrote people as <source>-<digest of its file names>/<name>, after the sources derived from that source.
_OLD_SOURCE = re.compile(r"([^/]*)-[0-9a-f]{8}(-\d+)?/(?=.)")
_NOT_A_DIGEST = re.compile(r"[^/]*-\d{8}(-\d+)?/")  # a date rather
_MASKED_FILE = re.compile(r"[0-9a-f]{20}_(bare|\d+_[a-z_]+)\.jpg")  # what `data.masked` calls its images


def read_table(sources: Sequence[Path], lenient: bool = False) -> pd.DataFrame:
    """Read all images and labels of `sources` into one table; read it once per run and pass it on.

    Returns one row per image, in the order of the sources and sorted by path within each, RangeIndex:
    `source` (str: absolute path of the data folder or CSV file), `path` (str, absolute), `person` (str), `shot`
    (str, missing outside the challenge's layout), then the labels: `age` in years as float (NaN: unknown), all
    other columns as str (missing where the file has nothing).

    `person` is the name of the person's folder, or from the CSV file's column `person` or `group`, or the image's path
    in it. It depends on nothing else, so that a person is the same wherever a folder lies and whatever it holds.
    People of one name in two sources count as one in folds, which is safe, and as two elsewhere (`number_people`).
    Images derived from others have the original's person; `derived_from` is the original's path in its source.

    Args:
        sources: each is the challenge's `train/` folder, its `train/images`, the folder above, a folder with
            `labels.csv` and `images/`, or a CSV file; its paths are relative to its folder or `images/` there; or
            LABEL=FOLDER, whose sub-folders are the label's classes.
        lenient: accept images that are missing or no files; decoding them will fail.

    Raises:
        InputError: all bad folders and rows of all sources.
    """
    rows: list[Row] = []
    problems: list[str] = [] if sources else ["no data folder given; name one with --data"]
    for source in sources:
        label, folder = split_label(source)
        if label in NOT_CLASSES:
            problems.append(f"{source}: {label} has no classes, expected the column of a label that has")
            continue
        # Not resolved: the user's names stay readable, and a linked `images` keeps its place below `train`.
        place = Path(os.path.abspath(folder))  # noqa: PTH100
        try:
            found, bad = read_classes(place, label, lenient) if label else _read_source(place, lenient)
        except OSError as error:
            found, bad = [], [f"{error.filename or place}: cannot be read ({error.strerror})"]
        found.sort(key=lambda row: str(row["path"]))
        rows += found
        problems += bad
    problems = problems or _find_duplicates(rows)  # bad rows can look like duplicates
    raise_all(f"the data cannot be read (problems: {len(problems)}):", problems)
    columns = dict.fromkeys([*OWN_COLUMNS, *(name for row in rows for name in row)])
    texts = {name: [row.get(name) for row in rows] for name in columns}
    return pd.DataFrame({name: pd.Series(v, dtype="float64" if name == "age" else TEXT) for name, v in texts.items()})


def number_people(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Number the people of the table, [N] from 0: by name and source, of derived images by the original's source.

    >>> people = {"source": ["/x/a", "/x/b", "/x/c"], "person": ["1"] * 3, "original_source": [None, None, "a"]}
    >>> number_people(pd.DataFrame(people)).tolist()
    [0, 1, 0]
    """
    sources = table["source"].tolist()
    if ORIGINAL_SOURCE in table:
        by_name = {Path(source).name: source for source in sorted(set(sources))}
        pairs = zip(table[ORIGINAL_SOURCE], sources, strict=True)
        sources = [by_name.get(original, original) if isinstance(original, str) else own for original, own in pairs]
    people = list(zip(sources, table["person"].tolist(), strict=True))
    numbers = {person: number for number, person in enumerate(sorted(set(people)))}
    return np.array([numbers[person] for person in people], dtype=np.int64)


def split_old_person(person: str) -> tuple[list[str], str]:
    """Split a person as version 0.1 wrote it into sources (name-digest, derived ones first) and name.

    Whether `a-01234567/` after the first source is part of the name can only be guessed: after digits alone it is.

    >>> split_old_person("train-0123abcd/000123_female_Asian_34")
    (['train-0123abcd'], '000123_female_Asian_34')
    >>> split_old_person("m1-01234567/faces-0123abcd/cam-20240131/1.jpg")
    (['m1-01234567', 'faces-0123abcd'], 'cam-20240131/1.jpg')
    """
    sources: list[str] = []
    while (match := _OLD_SOURCE.match(person)) and not (sources and _NOT_A_DIGEST.match(person)):
        sources.append(match[0][:-1])
        person = person[match.end() :]
    return sources, person


def source_folder(source: Path) -> Path:
    """Return a source's folder: itself, or its CSV file's."""
    return source.parent if source.is_file() else source


def paths_in_sources(table: pd.DataFrame) -> list[str]:
    """Return each image's path within its source, with / on every system; the whole path if it lies elsewhere."""
    folders = {source: f"{source_folder(Path(source))}{os.sep}" for source in table["source"].unique()}
    pairs = zip(table["path"], table["source"], strict=True)
    return [path.removeprefix(folders[source]).replace(os.sep, "/") for path, source in pairs]


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
            advice = f"write {LABELS_FILE} (path, age, ...) beside images/, or name folders of classes as LABEL=FOLDER"
            problems = [f"{found}; for other images {advice}"]
    for row in rows:
        row["source"] = name
    return rows, problems


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
    for entry in list_visible(images):
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
    for entry in list_visible(folder):
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
    float, and every other column as text. The file's `source` becomes `csv_source`; `source` is the table's. People
    of masks that version 0.1 drew (`data.masked`) get the original's name.

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
        row = _read_person(values, values[path_column])
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


def _read_person(values: dict[str, str], file: str) -> Row:
    """Read a line's person, and the original's source if `data.masked` of version 0.1 wrote the line.

    >>> _read_person({"person": "m1-89abcdef/train-0123abcd/anna"}, "0123456789abcdef0123_0_worn.jpg")
    {'person': 'anna', 'original_source': 'train'}
    """
    person = values.get("person") or values.get("group") or file
    if DERIVED_FROM in values or not _MASKED_FILE.fullmatch(file):
        return {"person": person}
    sources, name = split_old_person(person)
    return {"person": name, ORIGINAL_SOURCE: re.sub(r"-[0-9a-f]{8}(-\d+)?$", "", sources[-1]) if sources else None}


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
