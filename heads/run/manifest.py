"""A run folder's manifest: the checksum of every file, written last, so that damaged or mixed files are found."""

import hashlib
import json
from pathlib import Path

from data.runtime.errors import InputError
from data.runtime.files import write_text

FILE_NAME = "manifest.json"


def file_checksum(path: Path) -> str:
    """Compute a file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, growing: Path | None = None) -> None:
    """Write the checksums of all files in and below `folder`.

    Hidden files, folds (which have manifests of their own) and files in the folder `growing` are left out.
    """
    checksums = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        separate = any(part.startswith((".", "fold-")) for part in name.parts)
        if path.is_file() and path.name != FILE_NAME and not separate and growing not in path.parents:
            checksums[name.as_posix()] = file_checksum(path)
    write_text(folder / FILE_NAME, json.dumps({"sha256": checksums}, indent=2) + "\n")


def verify_checksum(path: Path) -> tuple[str, str]:
    """Compare a file's checksum with the manifest beside it; return the checksum and a warning (may be empty).

    Raises:
        InputError: the manifest has another checksum, or cannot be read.
    """
    found = file_checksum(path)
    manifest = path.parent / FILE_NAME
    try:
        expected = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
        if not isinstance(expected, dict):
            raise TypeError("sha256 is no mapping")
    except FileNotFoundError:
        return found, f"{path}: its checksum is not verified, there is no {FILE_NAME} beside it"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{manifest}: cannot be read ({error}); finish the run with --resume") from None
    if expected.get(path.name) != found:
        raise InputError(
            f"{path}: its checksum is not the one in {FILE_NAME}: it was changed, damaged, or belongs to an "
            "unfinished run; finish that run with train_task.py --resume, or train it again"
        )
    return found, ""
