"""Data leakage between runs: a backbone that was trained on people in a head's validation set."""

import re
from collections.abc import Iterable

from data.annotations.table import original_person, source_name
from data.audit.predictions import read_validation
from heads.run.folder import RunFolder


def leakage_warning(run: RunFolder, people: Iterable[str]) -> str:
    """Warn if the backbone's `run` was trained on validation `people`; empty if it was not.

    The run was trained on the people in its data who were not in its validation fold. People of derived images
    (`data.masked`) are those of the originals. A run without validation.npz is not checked.

    `people` are from the table's column `person`, which names a person's data folder and its content.
    """
    if not run.validation.is_file():
        return ""
    head_people, validated = set(people), set(read_validation(run.validation)["person"].tolist())
    originals = set(map(original_person, validated))
    original_sources = set(map(source_name, originals))
    unknown = [person for person in map(original_person, head_people) if person not in originals]
    leaked = [person for person in unknown if source_name(person) in original_sources]
    warning = ""
    if leaked:
        warning += (
            f"{run.folder}: this backbone was trained on {len(leaked)} people in the head's validation set, which "
            "inflates its metrics; train the backbone with the --fold and the split of the head\n"
        )
    sources = set(map(source_name, validated))
    changed = {_folder(source) for source in set(map(source_name, head_people)) - sources}
    for name in sorted(changed & set(map(_folder, sources))):
        warning += (
            f"{run.folder}: this backbone was trained on a folder {name} with other files; if images were added "
            "or removed, its folds differ and it may have been trained on people in the head's validation set: "
            "train it again\n"
        )
    return warning


def _folder(source: str) -> str:
    """Return the folder's name without the digest that `source_name` includes: my-train of my-train-0123abcd-2."""
    return re.sub(r"-[0-9a-f]{8}(-\d+)?$", "", source)
