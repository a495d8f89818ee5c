"""Drawn faces in the challenge's layout, so that everything runs with no data at hand.

    python -m data.synthetic OUT --people 300 --eval-people 100 --size 96x128 --seed 0

writes OUT/train/images/<id>_<gender>_<race>_<age>/<shot>.jpg and OUT/train/train.csv, and of other people
OUT/eval/images/<40 hex>.jpg, OUT/eval/info.csv (what is asked) and OUT/eval/answers.csv (for scoring only;
with the person and the age in years, for the report). No real person is in it. About 40 / 40 / 20 % of the
people are under 30, from 30 to 59, and 60 or older; half are men and half women. The 400 people of this
command take about 20 seconds on 2 cores.
"""

import argparse
import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data.runtime.errors import InputError, add_debug_option, run_script
from data.runtime.files import write_folder_atomically
from data.runtime.processes import parallel_map
from data.synthetic.person import Person, imagine_person
from data.synthetic.portrait import SHOTS, draw_portrait

__all__ = ["SHOTS", "Person", "draw_portrait", "imagine_person", "joint_code", "write_dataset"]

RACE = "Drawn"
GENDERS = ["male", "female"]
# Where the three classes begin (and the last one ends), and the share of the people up to there.
AGE_BORDERS = [18, 30, 60, 80]
AGE_SHARES = [0.0, 0.4, 0.8, 1.0]
JPEG_QUALITY = 92
CHUNK = 8
TRAIN, EVAL = 0, 1


@dataclass(frozen=True)
class PersonPlan:
    """One person to draw; `key` (seed, train or eval, index) decides every random choice about them."""

    number: int  # the id in the folder's name, never the same in train and eval
    age: int
    gender: str
    key: tuple[int, int, int]


def write_dataset(
    out: Path, people: int, eval_people: int, size: tuple[int, int], seed: int, processes: int | None = None
) -> None:
    """Write `people` drawn people to `out`/train and `eval_people` others to `out`/eval, seven shots each.

    `size` is (width, height) in pixels. The bytes depend on these arguments alone, not on `processes` (None:
    one a core). `out` appears only when complete; InputError if it holds anything before.
    """
    with write_folder_atomically(out) as whole:
        train = _plan_people(people, seed, TRAIN, first_number=1)
        evaluation = _plan_people(eval_people, seed, EVAL, first_number=people + 1)
        for folder in (whole / "train" / "images", whole / "eval" / "images"):
            folder.mkdir(parents=True)
        draw = partial(_draw_person, whole=whole, size=size)
        for _ in parallel_map(draw, [*train, *evaluation], processes, at_once=CHUNK):
            pass
        _write_tables(whole, train, evaluation)


def joint_code(shot: str, gender: str, age: int) -> int:
    """The challenge's joint code of an image: mask * 6 + gender * 3 + age class.

    >>> joint_code("mask3", "male", 29), joint_code("incorrect_mask", "female", 30), joint_code("normal", "female", 60)
    (0, 10, 17)
    """
    mask = [True, False, None].index(SHOTS[shot])
    age_class = sum(age >= border for border in AGE_BORDERS[1:-1])
    return mask * 6 + GENDERS.index(gender) * 3 + age_class


def _plan_people(count: int, seed: int, part: int, first_number: int) -> list[PersonPlan]:
    """People whose ages and genders fill the shares as evenly as `count` allows, in random order."""
    rng = np.random.default_rng([seed, part])
    places = (np.arange(count) + rng.uniform(0.0, 1.0, count)) / max(count, 1)
    ages = np.interp(places, AGE_SHARES, AGE_BORDERS).astype(int)
    order = rng.permutation(count)
    return [
        PersonPlan(first_number + index, int(ages[rank]), GENDERS[int(rank) % 2], (seed, part, index))
        for index, rank in enumerate(order)
    ]


def _draw_person(sitter: PersonPlan, whole: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng([*sitter.key, sitter.number])
    person = imagine_person(sitter.age, sitter.gender, rng)
    for shot in SHOTS:
        encoded = io.BytesIO()
        Image.fromarray(draw_portrait(person, shot, rng, size)).save(encoded, "JPEG", quality=JPEG_QUALITY)
        path = _path(sitter, shot, whole)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded.getvalue())


def _folder(sitter: PersonPlan) -> str:
    return f"{sitter.number:06d}_{sitter.gender}_{RACE}_{sitter.age}"


def _path(sitter: PersonPlan, shot: str, whole: Path) -> Path:
    if sitter.key[1] == TRAIN:
        return whole / "train" / "images" / _folder(sitter) / f"{shot}.jpg"
    return whole / "eval" / "images" / _image_id(sitter, shot)


def _image_id(sitter: PersonPlan, shot: str) -> str:
    """A file name of 40 hexadecimal digits that tells nothing about the image."""
    return hashlib.sha1(f"{sitter.key} {shot}".encode(), usedforsecurity=False).hexdigest() + ".jpg"


def _write_tables(whole: Path, train: Sequence[PersonPlan], evaluation: Sequence[PersonPlan]) -> None:
    header = ["id", "gender", "race", "age", "path"]
    rows = [(f"{sitter.number:06d}", sitter.gender, RACE, sitter.age, _folder(sitter)) for sitter in train]
    _write_csv(whole / "train" / "train.csv", header, rows)
    answers = sorted(
        (
            _image_id(sitter, shot),
            joint_code(shot, sitter.gender, sitter.age),
            f"{sitter.number:06d}",
            sitter.age,
        )
        for sitter in evaluation
        for shot in SHOTS
    )
    _write_csv(whole / "eval" / "info.csv", ["ImageID", "ans"], [(name, 0) for name, *_ in answers])
    _write_csv(whole / "eval" / "answers.csv", ["ImageID", "ans", "person", "age"], answers)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _size(text: str) -> tuple[int, int]:
    """Width and height from "96x128".

    >>> _size("96x128")
    (96, 128)
    """
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if found is None or min(int(found[1]), int(found[2])) < 16:
        raise InputError(f"--size {text!r}: expected width x height in pixels from 16 up, such as 96x128")
    return int(found[1]), int(found[2])


def main() -> None:
    """Read the command line and write the data."""
    parser = argparse.ArgumentParser(
        prog="python -m data.synthetic", description="Draw a data set of faces in the challenge's layout."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet, or is empty")
    parser.add_argument("--people", type=int, default=300, help="people to train on (default 300)")
    parser.add_argument(
        "--eval-people", type=int, default=100, help="other people to evaluate on (default 100)"
    )
    parser.add_argument("--size", default="96x128", help="width x height in pixels (default 96x128)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other people (default 0)")
    parser.add_argument("--processes", type=int, help="processes that draw (default: one a core)")
    add_debug_option(parser)
    given = parser.parse_args()
    for option in ("people", "eval_people", "seed"):
        if getattr(given, option) < 0:
            raise InputError(f"--{option.replace('_', '-')} {getattr(given, option)}: expected 0 or more")
    if given.processes is not None and given.processes < 1:
        raise InputError(f"--processes {given.processes}: expected 1 or more")
    write_dataset(given.out, given.people, given.eval_people, _size(given.size), given.seed, given.processes)


if __name__ == "__main__":
    run_script(main)
