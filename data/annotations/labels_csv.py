"""Labels files: one CSV row per image, with its path, its person and its labels."""

import re
from collections.abc import Sequence
from pathlib import Path

from data.runtime.csv_files import read_csv
from data.runtime.files import unsafe_reason

OLDEST = 120
AGE_EXPECTED = f"expected a whole number of years from 0 to {OLDEST}"
PATH_COLUMNS = ("path", "image", "file", "ImageID")
PERSON_COLUMNS = ("person", "group")
LABEL_COLUMNS = ("age", "gender", "mask")

# One image: its labels as text, its age in years, None where a label is missing.
Row = dict[str, str | float | None]


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
