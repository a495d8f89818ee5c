"""A run folder's manifest: the file_checksum of every file, written last, so that damage and mixtures are told."""

import hashlib
import json
from pathlib import Path

from data.runtime.errors import InputError
from data.runtime.files import write_text

FILE_NAME = "manifest.json"


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, growing: Path | None = None) -> None:
    """Write the checksums of all files in `folder` and below.

    Left out are hidden files, folds, which have manifests of their own, and what stands in `growing`.
    """
    files = {
        path.relative_to(folder).as_posix(): file_checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name != FILE_NAME
        and not _is_apart(path.relative_to(folder))
        and (growing is None or growing not in path.parents)
    }
    write_text(folder / FILE_NAME, json.dumps({"sha256": files}, indent=2) + "\n")


def _is_apart(path: Path) -> bool:
    return any(part.startswith((".", "fold-")) for part in path.parts)


def verify_checksum(path: Path) -> tuple[str, str]:
    """A file's file_checksum, held against the manifest beside it, and what the user should know (empty if nothing).

    Raises:
        InputError: the manifest names another file_checksum, or cannot be read.
    """
    found = file_checksum(path)
    manifest = path.parent / FILE_NAME
    try:
        held = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
        if not isinstance(held, dict):
            raise TypeError("sha256 is no mapping")
    except FileNotFoundError:
        return found, f"{path}: no {FILE_NAME} beside it, so that its file_checksum is taken on trust"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{manifest}: cannot be read ({error}); finish the run with --resume") from None
    if held.get(path.name) != found:
        raise InputError(
            f"{path}: its file_checksum is not the one in {FILE_NAME}: it was changed, damaged, or belongs to a "
            "run that did not end; finish that run with train_task.py --resume, or train it again"
        )
    return found, ""
