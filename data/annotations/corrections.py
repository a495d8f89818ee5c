"""Label corrections: rows of a CSV file applied to the table; no image is renamed or changed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.annotations.table import (
    AGE_EXPECTED,
    DERIVED_FROM,
    ORIGINAL_SOURCE,
    OWN_COLUMNS,
    number_people,
    parse_age,
    split_old_person,
)
from data.runtime.errors import InputError, raise_all
from data.runtime.files import read_csv

REQUIRED = ("person", "column", "value")
OPTIONAL = ("shot", "photograph")
IGNORED = ("found", "suggested", "quality", "issue", "path")  # the reasons that `data.audit` writes
MAX_LISTED = 10  # images in a message


def apply_corrections(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a copy of the table (see `data.annotations.table.read_table`) with the corrections of a CSV file.

    The label `column` becomes `value` for all images of `person` (the table's `person` or the challenge's id; where
    two sources have one of that name, SOURCE/NAME with the name of the source's folder), or only for one `shot` or
    `photograph` (a name of `image_names`). Of two rows for one image's label the later one holds.

    Raises:
        InputError: all bad rows: people, columns, shots or images that are unknown or ambiguous, bad values, or
            the same correction twice with different values.
    """
    columns, lines, problems = read_csv(path)
    if columns and (set(columns) - {*REQUIRED, *OPTIONAL, *IGNORED} or set(REQUIRED) - set(columns)):
        expected = f"{', '.join(REQUIRED)} and, optionally, {', '.join(OPTIONAL)}"
        problems.append(f"{path}:1: columns {', '.join(columns)}, expected {expected}")
        lines = []
    numbers = number_people(table)
    people = _people_by_name(table, numbers)
    first: dict[tuple[str, str, str, str], tuple[int, str]] = {}
    corrected = table.copy()
    for line, fix in lines:
        person, column, value = fix["person"], fix["column"], fix["value"]
        image = fix.get("photograph", "")
        wrong = []
        try:
            rows = _select_rows(table, numbers, people, fix)
            if image:  # an image has several names, but one path
                image = table["path"][rows].iloc[0]
        except InputError as error:
            wrong = [str(error)]
        wrong += _value_problems(table, column, value)
        first_line, first_value = first.setdefault((person, column, fix.get("shot", ""), image), (line, value))
        if first_value != value:
            wrong.append(f"{column}={value!r} for {person}, but {first_value!r} on line {first_line}")
        problems += [f"{path}:{line}: {problem}" for problem in wrong]
        if not problems:
            corrected.loc[rows, column] = parse_age(value) if column == "age" else value
    raise_all(f"{path}: these corrections do not fit the data, nothing was corrected:", problems)
    return corrected


def image_names(people: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Name images for corrections [N], given each one's person and absolute path: by the file's name.

    As many folders are prefixed as it takes to differ from the person's other images. Such a name does not
    depend on where the data is.

    >>> image_names(["anna", "anna", "anna", "ben"], ["/x/1.jpg", "/x/a/2.jpg", "/x/b/2.jpg", "/x/2.jpg"])
    ['1.jpg', 'a/2.jpg', 'b/2.jpg', '2.jpg']
    """
    parts = [_parts(path) for path in paths]
    names = [""] * len(parts)
    for length in range(1, max(map(len, parts), default=0) + 1):
        ends = [(person, each[-length:]) for person, each in zip(people, parts, strict=True)]
        counts = Counter(ends)
        for i, (_, end) in enumerate(ends):
            if not names[i] and (counts[ends[i]] == 1 or end == parts[i]):
                names[i] = "/".join(end)
        if all(names):
            break
    return names


def _parts(path: str) -> tuple[str, ...]:
    """Split a path into its folders and file, without the root."""
    pure = PurePath(path)
    return pure.parts[1:] if pure.anchor else pure.parts


def _people_by_name(table: pd.DataFrame, numbers: npt.NDArray[np.int64]) -> dict[str, dict[int, str]]:
    """Return the table's people by each name that a correction may use for them: number to longest name."""
    people: dict[str, dict[int, str]] = {}
    ids = table["id"] if "id" in table else pd.Series(index=table.index, dtype="str")
    for number, source, person, identity in zip(numbers, table["source"], table["person"], ids, strict=True):
        full_name = person_in_source(source, person)
        for name in (person, full_name, identity):
            if isinstance(name, str):
                people.setdefault(name, {})[number] = full_name
    return people


def person_in_source(source: str, person: str) -> str:
    """Return SOURCE/NAME, which distinguishes people of one name in two sources by the sources' folders.

    >>> person_in_source("/data/faces/labels.csv", "anna"), person_in_source("/data/train", "anna")
    ('labels.csv/anna', 'train/anna')
    """
    return f"{PurePath(source).name}/{person}"


def _select_rows(
    table: pd.DataFrame, numbers: npt.NDArray[np.int64], people: Mapping[str, dict[int, str]], fix: Mapping[str, str]
) -> "pd.Series[bool]":
    """Select the rows [N] of a correction: a person's images, those of one shot, or a single one."""
    person, shot, image = fix["person"], fix.get("shot", ""), fix.get("photograph", "")
    matches = people.get(person) or people.get(split_old_person(person)[1], {})
    if not matches:
        raise InputError(f"person={person!r} is nobody in the data, expected a person's folder name or id")
    if len(matches) > 1:
        raise InputError(
            f"person={person!r} is {len(matches)} people, expected one of {', '.join(sorted(matches.values()))}"
        )
    rows = pd.Series(np.isin(numbers, list(matches)), index=table.index)
    chosen = rows & (table["shot"] == shot) if shot else rows
    if not chosen.any():
        has = ", ".join(table["shot"][rows].dropna()) or "images without a shot"
        raise InputError(f"shot={shot!r}, expected one that {person} has: {has}")
    return _select_image(table, chosen, person, image, fix["column"]) if image else chosen


def _select_image(
    table: pd.DataFrame, rows: "pd.Series[bool]", person: str, image: str, column: str
) -> "pd.Series[bool]":
    """Select the one of a person's rows [N] that an image's name means.

    Of several images of that name it is the only one with a label in `column`, which a head's images all have.
    """
    paths = table["path"][rows]
    end = PurePath(image).parts
    found = paths[[_parts(path)[-len(end) :] == end for path in paths]]
    if len(found) > 1 and column in table:
        labelled = found[table[column][found.index].notna()]
        found = labelled if len(labelled) == 1 else found
    if len(found) == 1:
        return rows & table["path"].isin(found)
    names = image_names([person] * len(paths), paths.tolist())
    if len(found):
        names = [name for name, path in zip(names, paths, strict=True) if path in set(found)]
        problem = f"photograph={image!r} is {len(found)} that {person} has, expected one of"
    else:
        problem = f"photograph={image!r}, expected one that {person} has:"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    raise InputError(f"{problem} {', '.join(names[:MAX_LISTED])}{more}")


def _value_problems(table: pd.DataFrame, column: str, value: str) -> list[str]:
    """Describe what is wrong with a correction's column or value."""
    labels = [name for name in table.columns if name not in (*OWN_COLUMNS, DERIVED_FROM, ORIGINAL_SOURCE, "id")]
    if column not in labels:
        return [f"column={column!r}, expected one of {', '.join(labels)}"]
    if not value:
        return [f"no value for {column}, expected the label that is right"]
    if column == "age" and parse_age(value) is None:
        return [f"age={value!r}, {AGE_EXPECTED}"]
    return []
