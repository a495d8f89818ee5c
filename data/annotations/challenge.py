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
