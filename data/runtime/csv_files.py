"""Read and write CSV files: UTF-8, commas, one line of column names; values stay text."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from data.runtime.files import write_atomically

MAX_ROWS = 1_000_000  # of one file: as text in memory they take about 1 GB


class CsvTable(NamedTuple):
    """The columns of a CSV file, its rows as (line in the file, value by column), and all its problems."""

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]
    problems: list[str]


def read_csv(path: Path, required: Sequence[str] | None = None, optional: Sequence[str] = ()) -> CsvTable:
    """Read a CSV file with or without a byte order mark; a bad one gives problems, each with file and line.

    Args:
        path: of the file; empty lines are skipped.
        required: None reads all columns that have names, which must differ, and strips names and values.
            Otherwise only these columns are read, unchanged; each must be there once.
        optional: read beside the required ones if the file has them.
    """
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    clean = str.strip if required is None else str
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [clean(name) for name in next(reader, [])]
            columns = [name for name in header if name]
            if required is not None:
                columns = [*required, *(name for name in dict.fromkeys(optional) if name in header)]
            if problem := _header_problem(header, columns, required is None):
                return CsvTable([], [], [f"{path}:1: {problem}"])
            places = [(name, header.index(name)) for name in columns]
            for cells in reader:
                line = reader.line_num
                if cells and len(rows) + len(problems) == MAX_ROWS:
                    expected = "expected at most that many; split the file"
                    return CsvTable([], [], [f"{path}:{line}: more rows than {MAX_ROWS}, {expected}"])
                if len(cells) == len(header):
                    rows.append((line, {name: clean(cells[place]) for name, place in places}))
                elif cells:
                    problems.append(f"{path}:{line}: {len(cells)} values, expected {len(header)}")
    except OSError as error:
        return CsvTable([], [], [f"{path}: cannot be read ({error.strerror})"])
    except (UnicodeDecodeError, csv.Error) as error:
        return CsvTable([], [], [f"{path}: not a CSV file in UTF-8 ({error})"])
    return CsvTable(columns, rows, problems)


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, the first of column names, atomically; names that are not UTF-8 keep their bytes."""
    with write_atomically(path) as new, new.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _header_problem(header: Sequence[str], columns: Sequence[str], every: bool) -> str:
    """Describe what is wrong with the line of column names; empty if nothing."""
    names = [name for name in header if name]
    if len(names) == 1 and ";" in names[0]:
        return "columns separated by semicolons, expected commas; save it again with commas"
    if every and not names:
        return "no line with column names, expected one"
    wrong = sorted({name for name in columns if header.count(name) != 1})
    if wrong and every:
        return f"columns {', '.join(wrong)} come twice, expected different names"
    return f"columns {', '.join(header) or '(none)'}; expected {', '.join(wrong)} once" if wrong else ""
