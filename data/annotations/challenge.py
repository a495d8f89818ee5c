"""The challenge's folders, `images/<id>_<gender>_<race>_<age>/<shot>.<ext>`: one row per image."""

from pathlib import Path

from data.annotations.labels_csv import AGE_EXPECTED, Row, parse_age
from data.images.find import IMAGE_EXTENSIONS

GENDERS = ("male", "female")
MASK_OF_SHOT = {
    **{f"mask{number}": "wear" for number in range(1, 6)},
    "incorrect_mask": "incorrect",
    "normal": "normal",
}
NAME_EXPECTED = "expected a folder <id>_<gender>_<race>_<age>, such as 000123_female_Asian_34"
SHOTS_EXPECTED = f"expected one of {', '.join(MASK_OF_SHOT)}"


def read_people(images: Path, lenient: bool = False) -> tuple[list[Row], list[str]]:
    """Read every person's folder in `images`.

    A row has `path`, `person` (the folder's name, since ids are not unique), `shot`, `id`, `age` in years,
    `gender`, `race` and `mask`. Returns the rows and the problems. Hidden files are ignored, and so are files
    that are no image (notes, thumbnail indices). Where `lenient`, what is no file but has an image's
    name (a folder, a broken link) is a row and no problem.
    """
    rows: list[Row] = []
    problems: list[str] = []
    entries = _list_visible(images)
    for entry in entries:
        if entry.is_dir():
            labels, bad_name = parse_folder_name(entry.name)
            found, bad_files = _person_images(entry, lenient)
            rows += [{**image, **labels, "mask": MASK_OF_SHOT[shot]} for shot, image in found.items()]
            problems += [f"{entry}: {problem}" for problem in bad_name] + bad_files
        elif entry.suffix.lower() in IMAGE_EXTENSIONS:
            problems.append(f"{entry}: an image outside a person's folder, {NAME_EXPECTED}")
    if not rows and not problems:
        problems.append(f"{images}: no images, {NAME_EXPECTED} with the person's images")
    return rows, problems


def parse_folder_name(folder: str) -> tuple[Row, list[str]]:
    """The labels that a person's folder name tells, and what is wrong with the name.

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


def _person_images(folder: Path, lenient: bool) -> tuple[dict[str, Row], list[str]]:
    """A person's images by shot, and the problems with the folder's files."""
    found: dict[str, Row] = {}
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
        elif is_image and shot in found:
            problems.append(f"{entry}: shot={shot!r} twice, also {found[shot]['path']}; keep one of them")
        elif is_image:
            found[shot] = {"path": str(entry), "person": folder.name, "shot": shot}
    if not found and not problems:
        problems.append(f"{folder}: no images, {SHOTS_EXPECTED}")
    return found, problems


def _list_visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name; names with a leading dot (also macOS's `._x`) left out."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
