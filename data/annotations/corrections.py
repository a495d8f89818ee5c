"""Label fixes, kept as rows of a CSV file and laid over the table; no image is renamed or touched."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

import pandas as pd

from data.annotations.labels_csv import AGE_EXPECTED, parse_age, read_csv
from data.annotations.table import OWN_COLUMNS, person_name
from data.runtime.errors import raise_all

REQUIRED = ("person", "column", "value")
OPTIONAL = ("shot", "photograph")
REASONS = ("found", "suggested", "quality", "issue", "path")  # what `data.audit` tells beside; not read
MOST_NAMED = 10  # images that a message lists


def apply_corrections(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a copy of the table (see `data.annotations.table.read_table`) with the fixes of a CSV file laid over it.

    The file has the columns `person`, `column`, `value` and, optionally, `shot` and `photograph`, beside which
    the reasons that `data.audit` writes are passed over: the label `column` becomes `value` for all of the
    person's images, or for that shot or image alone. `person` is the person's folder name, the
    challenge's id, or the table's own `person`; `photograph` is as `image_names` has it. Values are
    absolute, so that applying a file twice is applying it once; of two rows for one image's label the
    later one holds.

    Raises `InputError` telling all bad rows at once: nobody or several people of that name, an unknown column
    or shot, no or several images of that name, no value, an age that is none, the same fix twice with
    different values.
    """
    columns, lines, problems = read_csv(path)
    if columns and (set(columns) - {*REQUIRED, *OPTIONAL, *REASONS} or set(REQUIRED) - set(columns)):
        wanted = f"{', '.join(REQUIRED)} and, optionally, {', '.join(OPTIONAL)}"
        problems.append(f"{path}: columns {', '.join(columns)}, expected {wanted}")
        lines = []
    people = _people(table)
    seen: dict[tuple[str, str, str, str], tuple[int, str]] = {}
    fixes = []
    for line, fix in lines:
        person, column, value, shot = fix["person"], fix["column"], fix["value"], fix.get("shot", "")
        image = fix.get("photograph", "")
        rows, wrong = _rows(table, people, person, shot)
        if image and not wrong:
            rows, wrong = _one_image(table, rows, person, image, column)
            if not wrong:  # an image has several names, so that only its path tells the same fix
                image = table["path"][rows].iloc[0]
        wrong += _wrong_value(table, column, value)
        first_line, first_value = seen.setdefault((person, column, shot, image), (line, value))
        if first_value != value:
            wrong.append(f"{column}={value!r} for {person}, but line {first_line} says {first_value!r}")
        fixes.append((rows, column, value))
        problems += [f"{path}:{line}: {problem}" for problem in wrong]
    raise_all(f"{path}: these corrections do not fit the data, nothing was corrected:", problems)
    corrected = table.copy()
    for rows, column, value in fixes:
        corrected.loc[rows, column] = parse_age(value) if column == "age" else value
    return corrected


def image_names(people: Sequence[str], paths: Sequence[str]) -> list[str]:
    """What corrections call images [N], given each one's person and absolute path: the file's name.

    Where another of the person's files has that name too, as many folders as tell them apart stand before it.
    So a name says nothing of the machine, and holds wherever the data lies.

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
    """A path's folders and file, without the root."""
    pure = PurePath(path)
    return pure.parts[1:] if pure.anchor else pure.parts


def _people(table: pd.DataFrame) -> dict[str, list[str]]:
    """The table's people by each name that a correction may call them."""
    people: dict[str, set[str]] = {}
    ids = table["id"] if "id" in table else pd.Series(index=table.index, dtype="str")
    for person, identity in zip(table["person"], ids, strict=True):
        for name in (person, person_name(person), identity):
            if isinstance(name, str):
                people.setdefault(name, set()).add(person)
    return {name: sorted(found) for name, found in people.items()}


def _rows(
    table: pd.DataFrame, people: dict[str, list[str]], person: str, shot: str
) -> tuple["pd.Series[bool]", list[str]]:
    """Which rows [N] a correction is about, and why they are not one person's images."""
    matches = people.get(person, [])
    rows = table["person"].isin(matches)
    if not matches:
        return rows, [f"person={person!r} is nobody in the data, expected a person's folder name or id"]
    if len(matches) > 1:
        named = ", ".join(matches)
        return rows, [f"person={person!r} is {len(matches)} people, expected one of {named}"]
    chosen = rows & (table["shot"] == shot) if shot else rows
    if not chosen.any():
        has = ", ".join(table["shot"][rows].dropna()) or "images without a shot"
        return chosen, [f"shot={shot!r}, expected one that {person} has: {has}"]
    return chosen, []


def _one_image(
    table: pd.DataFrame, rows: "pd.Series[bool]", person: str, image: str, column: str
) -> tuple["pd.Series[bool]", list[str]]:
    """Of a person's rows [N] the one that an image's name means, and why it means no or several ones.

    Of several, one alone that has a label in `column` is meant: a head's images all have one.
    """
    paths = table["path"][rows]
    end = PurePath(image).parts
    found = paths[[_parts(path)[-len(end) :] == end for path in paths]]
    if len(found) > 1 and column in table:
        labelled = found[table[column][found.index].notna()]
        found = labelled if len(labelled) == 1 else found
    if len(found) == 1:
        return rows & (table["path"] == found.iloc[0]), []
    names = image_names([person] * len(paths), paths.tolist())
    if len(found):
        names = [name for name, path in zip(names, paths, strict=True) if path in set(found)]
    told = ", ".join(names[:MOST_NAMED])
    if len(names) > MOST_NAMED:
        told += f" and {len(names) - MOST_NAMED} more"
    if len(found):
        return rows, [f"image={image!r} is {len(found)} that {person} has, expected one of {told}"]
    return rows, [f"image={image!r}, expected one that {person} has: {told}"]


def _wrong_value(table: pd.DataFrame, column: str, value: str) -> list[str]:
    """What is wrong with a correction's column or value."""
    labels = [name for name in table.columns if name not in (*OWN_COLUMNS, "id")]
    if column not in labels:
        return [f"column={column!r}, expected one of {', '.join(labels)}"]
    if not value:
        return [f"no value for {column}, expected the label that is right"]
    if column == "age" and parse_age(value) is None:
        return [f"age={value!r}, {AGE_EXPECTED}"]
    return []
