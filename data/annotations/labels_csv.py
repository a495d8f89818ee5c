"""Labels in a CSV file: lines of text with their numbers, and one row per image from a labels file."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.runtime.file_names import is_outside

OLDEST = 120
MOST_ROWS = 1_000_000  # of one CSV file: as text in memory they take about 1 GB
AGE_EXPECTED = f"expected a whole number of years from 0 to {OLDEST}"
PATH_COLUMNS = ("path", "image", "file", "ImageID")
PERSON_COLUMNS = ("person", "group")
LABEL_COLUMNS = ("age", "gender", "mask")

# An image as both readers give it: its labels as text, its age in years, None where there is none.
Row = dict[str, str | float | None]


def parse_age(text: str) -> float | None:
    """Age in years, 0..120, from text that is a whole number (`34`, or `34.0` as tables write it); else None.

    >>> parse_age("034"), parse_age("34.0"), parse_age("34.5"), parse_age("3O"), parse_age("121")
    (34.0, 34.0, None, None, None)
    """
    if not re.fullmatch(r"[0-9]+(\.0*)?", text) or float(text) > OLDEST:
        return None
    return float(text)


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]], list[str]]:
    """Read a CSV file (UTF-8, with or without a byte order mark) as text.

    Returns its column names, its rows as (line number, column -> text without surrounding blanks; empty
    where there is no value) and the problems found. Columns without a name (a row index) are left out.
    """
    lines: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            names = [name for name in header if name]
            twice = sorted({name for name in names if names.count(name) > 1})
            if len(names) == 1 and names[0].count(";"):
                return (
                    [],
                    [],
                    [f"{path}: columns parted by semicolons, expected commas; save it again with commas"],
                )
            if not names or twice:
                what = f"columns {twice} come twice" if twice else "no header line with column names"
                return [], [], [f"{path}: {what}, expected one line of different names"]
            for cells in reader:
                if not cells:
                    continue
                if len(lines) + len(problems) == MOST_ROWS:
                    told = f"{path}:{reader.line_num}: more rows than {MOST_ROWS}, expected at most that many"
                    return [], [], [f"{told}; split the file"]
                if len(cells) != len(header):
                    problems.append(f"{path}:{reader.line_num}: {len(cells)} values, expected {len(header)}")
                    continue
                values = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if name}
                lines.append((reader.line_num, values))
    except OSError as error:
        return [], [], [f"{path}: cannot be read ({error.strerror})"]
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [], [f"{path}: not a CSV file in UTF-8 ({error})"]
    return names, lines, problems


def read_labels(path: Path, roots: Sequence[Path], lenient: bool = False) -> tuple[list[Row], list[str]]:
    """Read a labels file: one row per image, looked for in each of the folders `roots` in turn.

    A row has `path` (where the image was found), `person` (the column `person`, else `group`, else the
    image itself), `age` as float years, and every other column as text. A CSV's own `source` column is
    kept as `csv_source`, since the table's `source` says where a row comes from.
    Returns the rows and the problems; an image that is not there is none of them where `lenient`.
    """
    columns, lines, problems = read_csv(path)
    problems += [
        f"{path}: column {name!r}, expected {known!r}; rename it"
        for known in (*PERSON_COLUMNS, *LABEL_COLUMNS)
        for name in columns
        if name != known and name.casefold() == known
    ]
    path_column = next((name for name in PATH_COLUMNS if name in columns), None)
    if columns and path_column is None:
        wanted = ", ".join(PATH_COLUMNS)
        problems.append(f"{path}: columns {', '.join(columns)}, expected one of {wanted} with the image's path")
    if path_column is None:
        return [], problems
    if not lines and not problems:
        problems.append(f"{path}: no rows, expected one line per image")
    rows = []
    first_line: dict[str, int] = {}
    for line, values in lines:
        problem, found = _find(values[path_column], roots, lenient)
        if not problem and first_line.setdefault(found, line) != line:
            problem = f"is already on line {first_line[found]}"
        wrong = [f"{path_column}={values[path_column]!r}, {problem}"] if problem else []
        row, wrong_labels = _labels(values, path_column)
        rows.append({**row, "path": found})
        problems += [f"{path}:{line}: {what}" for what in wrong + wrong_labels]
    return rows, problems


def read_person(values: Mapping[str, str], path_column: str) -> str:
    """Whom a line is of: its `person`, else its `group`, else nobody but its image.

    >>> read_person({"path": "1.jpg", "person": "", "group": "g"}, "path"), read_person({"path": "1.jpg"}, "path")
    ('g', '1.jpg')
    """
    return values[next((name for name in PERSON_COLUMNS if values.get(name)), path_column)]


def _labels(values: dict[str, str], path_column: str) -> tuple[Row, list[str]]:
    """A line's person and labels, and the problems with them."""
    row: Row = {"person": read_person(values, path_column)}
    for name, value in values.items():
        if name not in (path_column, "person"):
            row["csv_source" if name == "source" else name] = value or None
    if not values.get("age"):
        return row, []
    row["age"] = parse_age(values["age"])
    return row, [] if row["age"] is not None else [f"age={values['age']!r}, {AGE_EXPECTED}"]


def _find(file: str, roots: Sequence[Path], lenient: bool) -> tuple[str, str]:
    """The problem with an image's relative path (empty if none) and the absolute path where it lies."""
    if not file:
        return "expected an image's path", file
    if is_outside(file):
        return "expected a path inside the image folder, without '..' and not absolute", file
    found = next((root / file for root in roots if (root / file).is_file()), None)
    if found is None and lenient:
        found = roots[0] / file
    if found is None:
        return f"no such file in {' or '.join(str(root) for root in roots)}", file
    return "", str(found)
