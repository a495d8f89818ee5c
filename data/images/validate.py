"""Images that cannot be decoded, found before training and left out of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from data.images.decode import decode
from data.runtime.errors import InputError, list_problems
from data.runtime.files import write_atomically
from data.runtime.processes import parallel_map

LEFT_OUT = "left_out.csv"


def find_undecodable(paths: Sequence[str], processes: int | None = None) -> dict[str, str]:
    """Decode images, JPEGs at an eighth of their size; return the error of each one that cannot be decoded."""
    ordered = sorted(set(paths))
    errors = parallel_map(_decode_error, ordered, processes, chunk=64)
    return {path: error for path, error in zip(ordered, errors, strict=True) if error}


def _decode_error(path: str) -> str:
    try:
        decode(Path(path), least=(1, 1))
    except InputError as error:
        return str(error)
    return ""


def undecodable_message(bad: Mapping[str, str]) -> str:
    """Format the warning about images that are left out, a line each."""
    return list_problems(f"{len(bad)} images cannot be decoded and are left out", list(bad.values()))


def write_left_out(folder: Path, bad: Mapping[str, str]) -> None:
    """Write `folder`/left_out.csv (path, reason); remove an earlier run's file if there are none."""
    file = folder / LEFT_OUT
    if not bad:
        file.unlink(missing_ok=True)
        return
    with write_atomically(file) as temporary:
        table = pd.DataFrame({"path": list(bad), "reason": list(bad.values())})
        table.to_csv(temporary, index=False, errors="surrogateescape")
