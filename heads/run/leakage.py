"""Data leakage between runs: a backbone that was trained on people in a head's validation set."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.audit.validation import read_validation
from heads.run.checkpoint import find_description
from heads.run.folder import RunFolder

PEOPLE = "people"  # key of a checkpoint's description


@dataclass(frozen=True)
class TrainingPeople:
    """The people that a head was trained on, and those its backbone and teachers were trained on, and so on.

    Attributes:
        hashes: of their names, see `hash_person`: who has the data recognises them, a shared checkpoint names nobody.
        unknown: checkpoints (as FOLDER/FILE) and files along the chain that do not hold their people.
    """

    hashes: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    def after_training(self, people: Iterable[str]) -> "TrainingPeople":
        """Return those of a head that starts from these weights and is trained on `people`."""
        return TrainingPeople(self.hashes | set(map(hash_person, people)), self.unknown)

    def __or__(self, other: "TrainingPeople") -> "TrainingPeople":
        return TrainingPeople(self.hashes | other.hashes, tuple(dict.fromkeys(self.unknown + other.unknown)))

    def to_json(self) -> dict[str, list[str]]:
        """Return the part of a checkpoint's description that `find_training_people` reads."""
        return {"hashes": sorted(self.hashes), "unknown": list(self.unknown)}


def hash_person(person: str) -> str:
    """Return the first 16 digits of the SHA-256 of a person's name.

    >>> hash_person("anna")
    '55579b557896d0ce'
    """
    return hashlib.sha256(person.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def find_training_people(checkpoint: Path) -> TrainingPeople:
    """Find the people whom a checkpoint was trained on; nobody if it is not one of train_task.py.

    Version 0.1 did not write them: such a checkpoint is `unknown`.
    """
    description = find_description(checkpoint) or {}
    people = description.get(PEOPLE)
    if isinstance(people, dict):
        return TrainingPeople(frozenset(people.get("hashes", ())), tuple(people.get("unknown", ())))
    return TrainingPeople(unknown=("/".join(checkpoint.parts[-2:]),)) if "config" in description else TrainingPeople()


def teacher_warning(name: str, people: TrainingPeople, valid: pd.DataFrame) -> str:
    """Warn of validation people whom the teacher called `name` was trained on, as `leakage_warning` does."""
    unknown = ", ".join(people.unknown)
    warning = f"{name}: it is not known which people this teacher was trained on ({unknown})\n" if unknown else ""
    return warning + _describe_leak(name, "teacher", _find_leaked(people, valid))


def leakage_warning(checkpoint: Path, people: TrainingPeople, valid: pd.DataFrame) -> str:
    """Warn of validation people whom the backbone was trained on, and of what is not known; empty if there is nothing.

    Args:
        checkpoint: of the backbone.
        people: of the backbone.
        valid: rows of the validation set, of which `source` and `person` are used.
    """
    leaked, warning = _find_leaked(people, valid), ""
    description = find_description(checkpoint) or {}
    if "config" in description and PEOPLE not in description:
        warning += f"{checkpoint}: a backbone of version 0.1, which did not store the people it was trained on"
        validation = RunFolder(checkpoint.parent).validation
        if validation.is_file():
            warning += "; they are taken to be all others of the folders that it was validated on\n"
            leaked |= _find_others(set(read_validation(validation)["person"].tolist()), valid)
        else:
            warning += "; train it again to have data leakage found\n"
    elif people.unknown:
        names = ", ".join(people.unknown)
        warning += f"{checkpoint}: it is not known which people its backbone was trained on ({names})\n"
    return warning + _describe_leak(checkpoint, "backbone", leaked)


def _find_leaked(people: TrainingPeople, valid: pd.DataFrame) -> set[str]:
    return {person for person in valid["person"].unique() if hash_person(person) in people.hashes}


def _describe_leak(name: str | Path, what: str, leaked: set[str]) -> str:
    if not leaked:
        return ""
    return (
        f"{name}: this {what} was trained on {len(leaked)} people in the head's validation set, which "
        f"inflates its metrics; train the {what} with the --fold and the split of the head\n"
    )


def _find_others(validated: set[str], valid: pd.DataFrame) -> set[str]:
    """Find the people of `valid`, from sources with some of those `validated`, who are not among these."""
    others: set[str] = set()
    for _, people in valid.groupby("source")["person"]:
        if not validated.isdisjoint(people):
            others |= set(people) - validated
    return others
