"""Images that cannot be decoded, found before anything is trained on what is left."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from data.images.decode import decode
from data.runtime.errors import MOST_PRINTED, InputError
from data.runtime.files import write_atomically
from data.runtime.processes import parallel_map

CHUNK = 64
LEFT_OUT = "left_out.csv"


def find_undecodable(paths: Sequence[str], processes: int | None = None) -> dict[str, str]:
    """What is wrong with each of `paths` that cannot be decoded; empty if all can.

    Every image is read to its end, JPEGs at an eighth of their size.

    Args:
        paths: of images; repetition does not matter.
        processes: that decode; None for one a core.
    """
    ordered = sorted(set(paths))
    chunks = [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]
    found = parallel_map(_find_undecodable, chunks, processes)
    return {path: reason for chunk in found for path, reason in chunk.items()}


def _find_undecodable(paths: Sequence[str]) -> dict[str, str]:
    bad = {}
    for path in paths:
        try:
            decode(Path(path), least=(1, 1))
        except InputError as error:
            bad[path] = str(error)
    return bad


def undecodable_message(bad: Mapping[str, str]) -> str:
    """What to undecodable_message the user of images that are left out, a line each."""
    lines = [f"{len(bad)} images cannot be decoded and are left out", *list(bad.values())[:MOST_PRINTED]]
    return "\n  ".join(
        [*lines, f"... and {len(bad) - MOST_PRINTED} more"] if len(bad) > MOST_PRINTED else lines
    )


def write_left_out(folder: Path, bad: Mapping[str, str]) -> None:
    """Write `folder`/left_out.csv (path, reason); without any, remove what an earlier run wrote there."""
    file = folder / LEFT_OUT
    if not bad:
        file.unlink(missing_ok=True)
        return
    with write_atomically(file) as temporary:
        pd.DataFrame({"path": list(bad), "reason": list(bad.values())}).to_csv(
            temporary, index=False, errors="surrogateescape"
        )
